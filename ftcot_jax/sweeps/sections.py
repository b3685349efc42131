"""What the report has in it, in order: for the page and for the Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ftcot_jax.sweeps.conditions import Condition
from ftcot_jax.sweeps.cost_table import cost_table
from ftcot_jax.sweeps.figures import TeacherAccuracies, draw_figures
from ftcot_jax.sweeps.method_table import method_tables
from ftcot_jax.sweeps.page import Drawing, Section
from ftcot_jax.sweeps.paired_table import paired_tables
from ftcot_jax.sweeps.results import TrialResult, arms
from ftcot_jax.sweeps.table import Table
from ftcot_jax.sweeps.tables import arm_table, epoch_table, time_table, training_table, writing_table


def report_sections(
    results: Sequence[TrialResult],
    planned: Sequence[Condition],
    teachers: Table | None,
    accuracies: TeacherAccuracies,
    title: str,
    folder: Path,
) -> list[Section]:
    """All tables and figures, the figures drawn into the folder.

    Args:
      results: finished trials, one at least.
      planned: the condition of every trial, finished or not.
      teachers: their table.
      accuracies: of the teachers, by name and dataset.
      title: of the run, over each figure.
      folder: an existing one.
    """
    grouped = arms(results)
    drawings = {
        figure.name: Drawing(figure.name, figure.title, (folder / f"{figure.name}.svg").read_text(encoding="utf-8"))
        for figure in draw_figures(grouped, accuracies, title, folder)
    }

    def section(name: str, tables: Sequence[Table | None], *figures: str) -> Section:
        shown = [table for table in tables if table is not None]
        return Section(name, [*shown, *(drawings[figure] for figure in figures if figure in drawings)])

    over = [f"accuracy_over_{axis}" for axis in ("diversity", "questions", "size", "teacher")]
    sections = [
        section("Accuracy", [arm_table(grouped)]),
        section("Methods and datasets", method_tables(grouped, planned)),
        section("The teacher", [teachers]),
        section("What accuracy depends on", [], *over),
        section("Paired tests", paired_tables(grouped)),
        section("How the answers were written", [writing_table(grouped)]),
        section("Accuracy by epoch", [epoch_table(grouped)], "accuracy_over_epochs"),
        section("Cost", [cost_table(grouped)], "accuracy_over_dollars", "accuracy_over_chip_seconds"),
        section("Training", [training_table(results), time_table(results)]),
    ]
    return [one for one in sections if one.parts]


def report_markdown(title: str, missing: Sequence[str], sections: Sequence[Section]) -> str:
    """The report as Markdown, its figures beside it."""
    parts = [f"# {' '.join(title.split())}\n", *(f"{' '.join(line.split())}\n" for line in missing)]
    for number, section in enumerate(sections):
        if number:
            parts.append(f"## {section.title}\n")
        for part in section.parts:
            if isinstance(part, Table):
                heading = f"### {part.title}\n\n" if part.title != section.title else ""
                parts.append(heading + part.markdown())
            else:
                parts.append(f"![{part.title}]({part.name}.svg)\n")
    return "\n".join(parts)
