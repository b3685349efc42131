"""The yield report: per task and D, what a selection keeps and where the rest went; table, plot and JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ftcot_jax.errors import FtcotError
from ftcot_jax.rationales.duplicates import repeats
from ftcot_jax.rationales.select import PairTable, Yield, select
from ftcot_jax.rationales.settings import SelectSettings

_REASONS = {
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
    """What is kept of one task at one D.

    Attributes:
      task: its key.
      diversity: D.
      counts: where the pairs went.
      near_duplicates: kept pairs that repeat an earlier one of their question, but for spelling or by equations.
      words: of the kept rationales: mean, median, 95th percentile, longest.
    """

    task: str
    diversity: int
    counts: Yield
    near_duplicates: int
    words: dict[str, float]


def yield_rows(table: PairTable, settings: SelectSettings) -> list[YieldRow]:
    """A row for each D of 1, 2, 4, ... and the largest there is; a D that keeps nothing has no row.

    Raises:
      FtcotError: no D keeps anything.
    """
    most = int(table.completion_index.max()) + 1
    sizes = sorted({*(2**power for power in range(most.bit_length()) if 2**power <= most), most})
    rows = []
    for diversity in sizes:
        try:
            selection = select(table, settings.model_copy(update={"diversity": diversity}))
        except FtcotError:
            continue
        kept = np.unique(selection.chosen)
        words = table.words[kept]
        texts = [table.pairs[place].rationale for place in kept.tolist()]
        again = repeats(table.sample_index[kept].tolist(), texts, near=True)
        rows.append(
            YieldRow(
                table.data.task.key,
                diversity,
                selection.report,
                sum(again),
                {
                    "mean": round(float(words.mean()), 2),
                    "median": round(float(np.median(words)), 2),
                    "p95": round(float(np.percentile(words, 95)), 2),
                    "longest": float(words.max()),
                },
            )
        )
    if not rows:
        select(table, settings.model_copy(update={"diversity": None}))
    return rows


def yield_markdown(rows: Sequence[YieldRow]) -> str:
    """A Markdown table: a row a task and D; reasons that took nothing anywhere have no column."""
    reasons = [name for name in _REASONS if any(getattr(row.counts, name) for row in rows)]
    head = ["task", "D", "questions covered", "kept", *(_REASONS[name] for name in reasons), "near-duplicates kept"]
    lines = ["| " + " | ".join([*head, "words, mean", "95%"]) + " |", "|" + "---|" * (len(head) + 2)]
    for row in rows:
        covered = f"{row.counts.covered} of {row.counts.questions}"
        taken = [str(getattr(row.counts, name)) for name in reasons]
        cells = [row.task, str(row.diversity), covered, str(row.counts.kept), *taken, str(row.near_duplicates)]
        lines.append("| " + " | ".join([*cells, f"{row.words['mean']:.1f}", f"{row.words['p95']:.0f}"]) + " |")
    return "\n".join(lines) + "\n"


def yield_json(rows: Sequence[YieldRow]) -> str:
    content: list[dict[str, Any]] = [dataclasses.asdict(row) for row in rows]
    return json.dumps(content, indent=1)


def plot_yield(rows: Sequence[YieldRow], path: Path) -> None:
    """Draws questions covered and rationales kept over D, a line a task, as ``path.svg`` and ``path.png``."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    for task in dict.fromkeys(row.task for row in rows):
        mine = [row for row in rows if row.task == task]
        sizes = [row.diversity for row in mine]
        left.plot(sizes, [100 * row.counts.covered / row.counts.questions for row in mine], "o-", label=task)
        right.plot(sizes, [row.counts.kept / row.counts.questions for row in mine], "o-", label=task)
    ticks = sorted({row.diversity for row in rows})
    for axes, title in ((left, "training questions covered, %"), (right, "rationales kept a training question")):
        axes.set_xscale("log", base=2)
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.set_xlabel("diversity degree D")
        axes.set_title(title, fontsize=11)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    right.legend(fontsize=8, frameon=False)
    for suffix in (".svg", ".png"):
        figure.savefig(path.with_suffix(suffix), dpi=150)
    plt.close(figure)
