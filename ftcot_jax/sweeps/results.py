"""Results: a row a trial, and arms made of the rows that differ only in their seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence
from typing import Any

from ftcot_jax.evaluation.intervals import Interval, over_seeds, wilson
from ftcot_jax.sweeps.conditions import Condition
from ftcot_jax.sweeps.cost import Cost


@dataclasses.dataclass(frozen=True)
class TrialResult:
    """One scored student.

    Attributes:
      name: arm and seed.
      arm: what is compared.
      condition: what it is, apart from its seed.
      asked: what tells each test question from any other, of this trial or another.
      outcomes: for each test question, how many of its texts are right.
      training: the student artefact's summary; None for a student that was not trained here.
      scores: the score artefact's summary.
      before: summary of the scores before training, if asked for.
      selection: where the stored pairs went, in counts; None if it was not trained at all.
      chosen_by: how the reported epoch was chosen: "last", "best_on_validation" or "best_on_test".
      epoch: the reported one.
      looks: (epoch, accuracy) of every score on the way, of the questions that epochs are chosen by.
      cost: what it took.
    """

    name: str
    arm: str
    condition: Condition
    asked: list[str]
    outcomes: list[int]
    training: dict[str, Any] | None
    scores: dict[str, Any]
    before: dict[str, Any] | None
    selection: dict[str, int] | None
    chosen_by: str
    epoch: float
    looks: list[tuple[float, float]]
    cost: Cost

    @property
    def samples(self) -> int:
        """Texts a question."""
        samples: int = self.scores["samples"]
        return samples


@dataclasses.dataclass(frozen=True)
class ArmResult:
    """Trials of one arm: mean accuracy over seeds, its 95% interval, and each seed's accuracy."""

    arm: str
    trials: list[TrialResult]
    accuracy: float
    interval: Interval

    @property
    def condition(self) -> Condition:
        """Of all its trials, which differ in their seed only."""
        return self.trials[0].condition

    @property
    def by_seed(self) -> list[float]:
        return [trial.scores["accuracy"] for trial in self.trials]

    def mean(self, part: str, name: str) -> float | None:
        """Mean over the seeds of a number of `training`, `scores` or `selection`; None where it has none."""
        found = [(getattr(trial, part) or {}).get(name) for trial in self.trials]
        known = [float(value) for value in found if value is not None]
        return sum(known) / len(known) if len(known) == len(found) else None

    @property
    def rights(self) -> dict[Hashable, list[int]]:
        """For each question, 1 or 0 for each of its answers, of every seed and sample."""
        found: dict[Hashable, list[int]] = {}
        for trial in self.trials:
            for question, right in zip(trial.asked, trial.outcomes, strict=True):
                found.setdefault(question, []).extend([1] * right + [0] * (trial.samples - right))
        return found


def arms(results: Sequence[TrialResult]) -> list[ArmResult]:
    """Groups results into arms, in order of first appearance."""
    groups: dict[str, list[TrialResult]] = {}
    for result in results:
        groups.setdefault(result.arm, []).append(result)
    return [
        ArmResult(
            arm,
            trials,
            sum(trial.scores["accuracy"] for trial in trials) / len(trials),
            _interval([trial.outcomes for trial in trials], trials[0].samples),
        )
        for arm, trials in groups.items()
    ]


def _interval(outcomes: list[list[int]], samples: int) -> Interval:
    """Wilson's for one answer a question, where only the questions are a sample; else the bootstrap's."""
    if len(outcomes) == samples == 1:
        return wilson(sum(outcomes[0]), len(outcomes[0]))
    return over_seeds(outcomes, samples)
