"""The report's paired tests: every arm against every other."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from ftcot_jax.evaluation.paired import Paired, compare, holm
from ftcot_jax.sweeps.results import ArmResult
from ftcot_jax.sweeps.tables import markdown

_SIGNIFICANT = 0.05


def paired_table(arms: Sequence[ArmResult]) -> str | None:
    """Markdown: the difference in accuracy of each pair of arms, and how likely chance alone makes one as large.

    Returns:
      None where there is nothing to compare: one arm, or none that share a question.
    """
    rights = [arm.rights for arm in arms]
    pairs = {(a, b): compare(rights[a], rights[b]) for a, b in itertools.combinations(range(len(arms)), 2)}
    pairs = {place: paired for place, paired in pairs.items() if paired.questions}
    if not pairs:
        return None
    adjusted = dict(zip(pairs, holm([paired.p for paired in pairs.values()]), strict=True))
    head = ["row minus column, points (p)", *(arm.arm for arm in arms[:-1])]
    rows = []
    for b, arm in enumerate(arms[1:], 1):
        row = [_shown(pairs.get((a, b)), adjusted.get((a, b), 1.0)) if a < b else "" for a in range(len(arms) - 1)]
        rows.append([arm.arm, *row])
    return f"{markdown(head, rows)}\n{_explained(arms, pairs)}\n"


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
    left_out = max(paired.unpaired for paired in pairs.values())
    return text + (
        f" Up to {left_out} questions of a pair were asked of one only and are left out." if left_out else ""
    )
