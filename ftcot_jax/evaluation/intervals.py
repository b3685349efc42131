"""How sure an accuracy is: over the questions of one student, and over students that differ in their seed."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

Z95 = 1.959963984540054  # two-sided 95% point of the normal distribution


@dataclasses.dataclass(frozen=True)
class Interval:
    """A 95% interval of an accuracy in [0, 1]."""

    low: float
    high: float


def wilson(correct: int, total: int) -> Interval:
    """Wilson's score interval for `correct` right answers of `total` (Wilson 1927).

    Raises:
      ValueError: `total` is not positive or `correct` is outside 0..total.
    """
    if total <= 0 or not 0 <= correct <= total:
        raise ValueError(f"{correct} of {total} is not a share")
    share, spread = correct / total, Z95 * Z95 / total
    centre = (share + spread / 2) / (1 + spread)
    half = Z95 * math.sqrt(share * (1 - share) / total + spread / (4 * total)) / (1 + spread)
    return Interval(max(0.0, centre - half), min(1.0, centre + half))


def over_seeds(outcomes: Sequence[Sequence[int]], samples: int = 1, resamples: int = 10_000) -> Interval:
    """Bootstrap interval of the mean accuracy of an arm, resampling seeds and, within each, questions.

    With few seeds the seed part is wide and honest; with one seed only questions are resampled.

    Args:
      outcomes: for each seed and each of its test questions, how many of its texts are right.
      samples: texts a question; those of one question stay together.
      resamples: bootstrap draws, from a fixed stream, so that a report is reproducible.
    """
    rng = np.random.Generator(np.random.Philox(0))
    rights = np.arange(samples, -1, -1)
    shares = np.array([[np.mean(np.asarray(seed) == right) for right in rights] for seed in outcomes])
    totals = np.array([len(seed) for seed in outcomes])
    drawn = rng.integers(0, len(totals), size=(resamples, len(totals)))
    counts = rng.multinomial(totals[drawn], shares[drawn])  # questions by how many of their texts are right
    means = (counts @ rights / (totals[drawn] * samples)).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(low), float(high))
