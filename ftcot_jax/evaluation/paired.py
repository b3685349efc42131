"""Paired tests: do two students differ on the same questions, or is it chance?"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Hashable, Mapping, Sequence

import numpy as np

Rights = Mapping[Hashable, Sequence[int]]


@dataclasses.dataclass(frozen=True)
class Paired:
    """Two students, or two arms of several seeds, compared on the questions both were asked.

    Attributes:
      questions: asked of both.
      unpaired: asked of one of them only, and left out.
      first_better: questions that the first answers right more often.
      second_better: and the second.
      difference: mean accuracy of the first minus that of the second on those questions, in [-1, 1].
      p: two-sided p-value of no difference.
    """

    questions: int
    unpaired: int
    first_better: int
    second_better: int
    difference: float
    p: float


def mcnemar(first_only: int, second_only: int) -> float:
    """Two-sided exact p-value of McNemar's test: the binomial test of the discordant pairs (McNemar 1947).

    Args:
      first_only: questions only the first student answered right.
      second_only: those only the second did.
    """
    total = first_only + second_only
    if total == 0:
        return 1.0
    tail = sum(math.comb(total, count) for count in range(min(first_only, second_only) + 1))
    return min(1.0, 2 * tail / 2**total)


def compare(first: Rights, second: Rights) -> Paired:
    """Compares two arms question by question.

    With one answer a question on each side this is McNemar's exact test. Answers to one question under several
    seeds (or several samples) are no independent pairs, so a question counts once, by the difference of its two
    shares of right answers, and the test is the exact sign-flip test of these differences: were there no difference,
    each could as well have the other sign. It says whether these students differ on such questions, not whether
    other seeds would.

    Args:
      first: for each question, 1 or 0 for each of its answers: one a seed, or one a sample.
      second: likewise; the number of answers may differ.
    """
    both = [question for question in first if question in second]
    unpaired = len(first) + len(second) - 2 * len(both)
    if not both:
        return Paired(0, unpaired, 0, 0, 0.0, 1.0)
    # Whole numbers, over a common denominator, so that equal differences are equal.
    whole = math.lcm(*(len(arm[question]) for arm in (first, second) for question in both))
    differences = [_share(first[question], whole) - _share(second[question], whole) for question in both]
    return Paired(
        questions=len(both),
        unpaired=unpaired,
        first_better=sum(value > 0 for value in differences),
        second_better=sum(value < 0 for value in differences),
        difference=sum(differences) / whole / len(both),
        p=_sign_flip(differences),
    )


def _share(answers: Sequence[int], whole: int) -> int:
    return sum(answers) * (whole // len(answers))


def _sign_flip(differences: Sequence[int]) -> float:
    """Exact two-sided p-value of the sum when each difference has either sign with equal chance."""
    sizes = collections.Counter(abs(value) for value in differences if value)
    if len(sizes) <= 1:  # all of one size, as with one seed: whole numbers do it, without rounding
        up, down = sum(value > 0 for value in differences), sum(value < 0 for value in differences)
        return mcnemar(up, down)
    step = math.gcd(*sizes)
    distribution = np.ones(1)  # over sums from -reach to reach, every second step
    for size, count in sizes.items():
        spread = np.zeros(count * (size // step) + 1)
        spread[:: size // step] = _binomial(count)
        distribution = np.convolve(distribution, spread)
    reach = len(distribution) - 1
    sums = 2 * np.arange(reach + 1) - reach
    observed = abs(sum(differences)) // step
    return float(min(1.0, distribution[np.abs(sums) >= observed].sum()))


def _binomial(count: int) -> np.ndarray:
    """Chances of 0..count heads of a fair coin."""
    logs = [
        math.lgamma(count + 1) - math.lgamma(heads + 1) - math.lgamma(count - heads + 1) for heads in range(count + 1)
    ]
    return np.exp(np.array(logs) - count * math.log(2))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values adjusted for their number by Holm's step-down rule (Holm 1979), in the order given."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = largest
    return adjusted
