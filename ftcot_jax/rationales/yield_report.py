"""The yield report: per task and D, what a selection keeps and where the rest went; table, plot and JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ftcot_jax.rationales.pair_table import PairTable
from ftcot_jax.rationales.select import Yield, select, sieve
from ftcot_jax.rationales.settings import SelectSettings

_REASONS = {
    "repeated": "shown again",
    "wrong": "wrong",
    "no_answer": "no answer",
    "out_of_length": "length",
    "duplicates": "duplicate",
    "beyond_per_question": "beyond cap",
    "contaminated": "in test set",
    "too_long": "too long",
}


@dataclasses.dataclass(frozen=True)
class YieldRow:
    """What a selection keeps at one D.

    Attributes:
      label: of the selection.
      task: its task's key.
      diversity: D.
      counts: where the pairs went.
      near_duplicates: kept pairs that repeat an earlier one of their question, but for spelling or by equations.
      words: of the kept rationales: mean, median, 95th percentile, longest; None where nothing is kept.
    """

    label: str
    task: str
    diversity: int
    counts: Yield
    near_duplicates: int
    words: dict[str, float] | None


def yield_rows(label: str, table: PairTable, settings: SelectSettings) -> list[YieldRow]:
    """A row for each D of 1, 2, 4, ... and the largest there is, or that the selection has.

    Raises:
      FtcotError: nothing is kept at the largest D.
    """
    select(table, settings)
    stored = int(table.columns.completion_index.max()) + 1
    most = min(stored, settings.diversity or stored)
    sizes = sorted({*(2**power for power in range(most.bit_length()) if 2**power <= most), most})
    rows = []
    for diversity in sizes:
        selection = sieve(table, settings.model_copy(update={"diversity": diversity}))
        kept = np.unique(selection.chosen)
        again = int(table.repeats(kept, near=True).sum())
        words = _lengths(table.columns.words[kept]) if len(kept) else None
        rows.append(YieldRow(label, table.data.task.key, diversity, selection.report, again, words))
    return rows


def _lengths(words: np.ndarray) -> dict[str, float]:
    figures = {
        "mean": words.mean(),
        "median": np.median(words),
        "p95": np.percentile(words, 95),
        "longest": words.max(),
    }
    return {name: round(float(figure), 2) for name, figure in figures.items()}


def yield_markdown(rows: Sequence[YieldRow]) -> str:
    """A Markdown table: a row a selection and D; reasons that took nothing anywhere have no column."""
    reasons = [name for name in _REASONS if any(getattr(row.counts, name) for row in rows)]
    head = [
        "selection",
        "D",
        "questions covered",
        "kept",
        *(_REASONS[name] for name in reasons),
        "near-duplicates kept",
    ]
    lines = ["| " + " | ".join([*head, "words, mean", "95%"]) + " |", "|" + "---|" * (len(head) + 2)]
    for row in rows:
        covered = f"{row.counts.covered} of {row.counts.questions}"
        taken = [str(getattr(row.counts, name)) for name in reasons]
        cells = [row.label, str(row.diversity), covered, str(row.counts.kept), *taken, str(row.near_duplicates)]
        lengths = ["", ""] if row.words is None else [f"{row.words['mean']:.1f}", f"{row.words['p95']:.0f}"]
        lines.append("| " + " | ".join([*cells, *lengths]) + " |")
    return "\n".join(lines) + "\n"


def yield_json(rows: Sequence[YieldRow]) -> str:
    content: list[dict[str, Any]] = [dataclasses.asdict(row) for row in rows]
    return json.dumps(content, indent=1)


def plot_yield(rows: Sequence[YieldRow], path: Path) -> None:
    """Draws questions covered, rationales kept and their length over D, a line a selection, as .svg and .png."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    for label in dict.fromkeys(row.label for row in rows):
        mine = [row for row in rows if row.label == label]
        sizes = [row.diversity for row in mine]
        lengths = [float("nan") if row.words is None else row.words["mean"] for row in mine]
        panels[0].plot(sizes, [100 * row.counts.covered / row.counts.questions for row in mine], "o-", label=label)
        panels[1].plot(sizes, [row.counts.kept / row.counts.questions for row in mine], "o-", label=label)
        panels[2].plot(sizes, lengths, "o-", label=label)
    ticks = sorted({row.diversity for row in rows})
    titles = ("training questions covered, %", "rationales kept a training question", "words a kept rationale, mean")
    for axes, title in zip(panels, titles, strict=True):
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.set_xlabel("diversity degree D")
        axes.set_title(title, fontsize=11)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    figure.legend(*panels[0].get_legend_handles_labels(), fontsize=8, frameon=False, loc="outside right upper")
    for suffix in (".svg", ".png"):
        figure.savefig(path.with_suffix(suffix), dpi=150)
    plt.close(figure)
