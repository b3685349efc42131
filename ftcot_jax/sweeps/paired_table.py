"""The report's paired tests: every arm against every other."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

from ftcot_jax.evaluation.paired import Paired, compare, holm
from ftcot_jax.sweeps.conditions import in_paper_order, task_title
from ftcot_jax.sweeps.results import ArmResult
from ftcot_jax.sweeps.table import Table

_SIGNIFICANT = 0.05
_MOST_ARMS = 16  # of a table of every two: beyond, nobody reads it and Holm's adjustment leaves nothing


def paired_tables(arms: Sequence[ArmResult]) -> list[Table]:
    """A table a dataset of which two arms or more are there; arms of different datasets share no question."""
    tasks = in_paper_order([arm.condition.task for arm in arms])
    tables: list[Table] = []
    for task in tasks:
        found = paired_table([arm for arm in arms if arm.condition.task == task])
        if found is not None:
            several = len(tasks) > 1
            title = f"{found.title}: {task_title(task)}" if several else found.title
            name = f"{found.name}_{len(tables) + 1}" if several else found.name
            tables.append(dataclasses.replace(found, name=name, title=title))
    return tables


def paired_table(arms: Sequence[ArmResult]) -> Table | None:
    """The difference in accuracy of each pair of arms, and how likely chance alone makes one as large.

    Returns:
      None where there is nothing to compare: one arm, or none that share a question.
    """
    rights = [arm.rights for arm in arms]
    every = len(arms) <= _MOST_ARMS
    places = itertools.combinations(range(len(arms)), 2) if every else ((0, b) for b in range(1, len(arms)))
    pairs = {(a, b): compare(rights[a], rights[b]) for a, b in places}
    pairs = {place: paired for place, paired in pairs.items() if paired.questions}
    if not pairs:
        return None
    adjusted = dict(zip(pairs, holm([paired.p for paired in pairs.values()]), strict=True))
    columns = range(len(arms) - 1 if every else 1)
    head = ["row minus column, points (p)", *(arms[a].arm for a in columns)]
    rows = []
    for b, arm in enumerate(arms[1:], 1):
        row = [_shown(pairs.get((a, b)), adjusted.get((a, b), 1.0)) if a < b else "" for a in columns]
        rows.append([arm.arm, *row])
    return Table("paired", "Paired tests", head, rows, notes=[_explained(arms, pairs)])


def _shown(paired: Paired | None, adjusted: float) -> str:
    if paired is None:
        return "-"
    text = f"{-100 * paired.difference:+.1f} ({_p(paired.p)})"
    return f"**{text}**" if adjusted < _SIGNIFICANT else text


def _p(value: float) -> str:
    return f"{value:.3f}" if value >= 0.001 else f"{value:.0e}"


def _explained(arms: Sequence[ArmResult], pairs: dict[tuple[int, int], Paired]) -> str:
    alone = all(len(arm.trials) == arm.trials[0].samples == 1 for arm in arms)
    if alone:
        test = "McNemar's exact test on the questions both were asked."
    else:
        test = (
            "Exact sign-flip test over the questions both were asked (McNemar's exact test where each was asked once): "
            "a question counts once, by the difference of its shares of right answers over seeds and samples. It says "
            "whether these students differ, not whether other seeds would."
        )
    text = f"{test} Two-sided, not adjusted; bold: below {_SIGNIFICANT} after Holm's adjustment for {len(pairs)} pairs."
    if len(arms) > _MOST_ARMS:
        text += f" Of {len(arms)} arms each is compared with the first only; `trials.json` has what other pairs need."
    left_out = max(paired.unpaired for paired in pairs.values())
    return text + (
        f" Up to {left_out} questions of a pair were asked of one only and are left out." if left_out else ""
    )
