"""``ftcot report``: tables, figures and a page from finished artefacts alone, also while a sweep is still running."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from etils import epath

import ftcot_jax
from ftcot_jax.artifacts import write_atomically
from ftcot_jax.errors import FtcotError, UsageError
from ftcot_jax.evaluation.study import build_study
from ftcot_jax.progress import say
from ftcot_jax.stages.finished import Saved, finished_grid, open_saved
from ftcot_jax.stages.study import sheets_of
from ftcot_jax.stages.teachers import Teachers
from ftcot_jax.stages.trial_results import Progress, first_seeds, progress_of
from ftcot_jax.sweeps.conditions import in_paper_order, task_title
from ftcot_jax.sweeps.page import build_page
from ftcot_jax.sweeps.results import TrialResult, arms
from ftcot_jax.sweeps.sections import report_markdown, report_sections
from ftcot_jax.sweeps.table import Table
from ftcot_jax.sweeps.tables import trial_csv

PAGE, STUDY = "report.html", "study.html"
_MOST_NAMED = 20  # missing trials that are listed by name
_MOST_TEXTS = 5_000  # of the sample study beside the page


def report_of(source: str, overrides: Sequence[str], price: float | None) -> str:
    """Reports on a recipe's run, or on whatever runs saved their recipes in a folder.

    Args:
      source: a recipe, or a run's folder.
      overrides: ``section.key=value`` texts.
      price: US dollars a device and hour; None for those of the package's table.

    Raises:
      UsageError: the source is neither.
      FtcotError: no trial is finished yet.
    """
    saved = open_saved(source, overrides, say)
    if not saved:
        raise UsageError(f"{source}: neither a recipe nor a run's folder, in which its recipe is saved")
    text = report(saved, price)
    say(f"report: {saved[0].place.folder / 'report' / PAGE}")
    return text


def report(saved: Sequence[Saved], price: float | None = None) -> str:
    """Writes ``report/`` in the run's folder and returns its Markdown; nothing else is made.

    Args:
      saved: recipes that share a folder.
      price: US dollars a device and hour; None for those of the package's table.

    Raises:
      FtcotError: no trial is finished yet.
    """
    place = saved[0].place
    teachers = Teachers(place)
    several = len(saved) > 1
    found = [progress_of(one, teachers, price, f"{one.recipe.name}: " if several else "") for one in saved]
    progress = Progress(
        [result for one in found for result in one.results],
        [condition for one in found for condition in one.planned],
        [name for one in found for name in one.missing],
        {name: reason for one in found for name, reason in one.failed.items()},
    )
    if not progress.results:
        raise FtcotError(
            f"{place.folder}: none of the {len(progress.missing)} trials is finished; run `ftcot run` first"
        )
    missing = _missing(progress)
    title = _title([one.recipe.name for one in saved], progress.results)
    with place.writing("report") as folder:
        sections = report_sections(
            progress.results, progress.planned, teachers.table(), teachers.accuracies(), title, folder
        )
        text = report_markdown(title, missing, sections)
        (folder / "tables").mkdir(exist_ok=True)
        _write(folder / "report.md", text)
        _write(folder / "trials.csv", trial_csv(progress.results))
        _write(folder / "trials.json", json.dumps([dataclasses.asdict(row) for row in progress.results], indent=1))
        for table in (part for section in sections for part in section.parts if isinstance(part, Table)):
            _write(folder / "tables" / f"{table.name}.tex", table.latex())
            _write(folder / "tables" / f"{table.name}.csv", table.csv())
        _write(folder / STUDY, _study(saved, progress.results, title))
        _write(folder / PAGE, build_page(title, _facts(saved, progress), missing, sections, STUDY))
    return text


def _write(file: Path, text: str) -> None:
    write_atomically(epath.Path(os.fspath(file)), text)


def _title(names: Sequence[str], results: Sequence[TrialResult]) -> str:
    """Recipes, all datasets, questions and seeds."""
    grouped = arms(results)
    tasks = in_paper_order([row.condition.task for row in results])
    questions = sorted({row.scores["questions"] for row in results})
    asked = str(questions[0]) if len(questions) == 1 else f"{questions[0]} to {questions[-1]}"
    seeds = max(len(arm.trials) for arm in grouped)
    title = f"{', '.join(names)}: {', '.join(tasks)}, {asked} held-out questions, {seeds} seed{'s' * (seeds > 1)}"
    rules = {row.chosen_by for row in results} - {"last"}
    words = {
        "best_on_test": "best epoch chosen ON THE TEST SET, as in the paper: optimistic",
        "best_on_validation": "best epoch chosen on validation questions",
    }
    return title + "".join(f" ({words[rule]})" for rule in sorted(rules))


def _missing(progress: Progress) -> list[str]:
    """What is not finished, in lines."""
    missing, failed = progress.missing, progress.failed
    if not missing:
        return []
    total = len(missing) + len(progress.results)
    lines = [f"{len(missing)} of {total} trials are not finished yet" + f", {len(failed)} failed" * bool(failed) + "."]
    lines += [f"Failed: {name}: {reason}" for name, reason in list(failed.items())[:_MOST_NAMED]]
    waiting = [name for name in missing if name not in failed]
    if waiting:
        more = len(waiting) - _MOST_NAMED
        lines.append("To come: " + "; ".join(waiting[:_MOST_NAMED]) + (f"; and {more} more." if more > 0 else "."))
    return lines


def _study(saved: Sequence[Saved], results: Sequence[TrialResult], title: str) -> str:
    """The sample study of one seed of each arm, and of the teachers."""
    names = first_seeds(results)
    sheets = []
    for one in saved:
        prefix = f"{one.recipe.name}: " if len(saved) > 1 else ""
        grid, _ = finished_grid(one.place, [spec for spec in one.specs if prefix + spec.name in names])
        sheets += sheets_of(grid, one.place)
    return build_study(title, sheets, _MOST_TEXTS).html


def _facts(saved: Sequence[Saved], progress: Progress) -> list[tuple[str, str]]:
    """What ran where."""
    training = [row.training for row in progress.results if row.training is not None]
    trials = len(progress.results) + len(progress.missing)
    return [
        ("recipe", ", ".join(one.recipe.name for one in saved)),
        ("trials finished", f"{len(progress.results)} of {trials}"),
        ("failed", str(len(progress.failed))),
        ("datasets", ", ".join(task_title(task) for task in in_paper_order([row.task for row in progress.planned]))),
        ("devices", _each(row["device"] for row in training)),
        ("machine", _each(row["machine"] for row in training)),
        ("jax", _each(row["jax"] for row in training)),
        ("ftcot_jax", ftcot_jax.__version__),
        ("written", time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())),
    ]


def _each(values: Iterable[str]) -> str:
    """Different values, once each; a dash where there are none."""
    return ", ".join(sorted(set(values))) or "-"
