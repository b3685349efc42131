"""Results: a row a trial, and arms made of the rows that differ only in their seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from ftcot_jax.evaluation.intervals import Interval, over_seeds, wilson


@dataclasses.dataclass(frozen=True)
class TrialResult:
    """One trained and scored student.

    Attributes:
      name: arm and seed.
      arm: what is compared.
      diversity: D of its selection, None where it takes no rationales or all there are.
      per_question: cap on kept rationales a question, None for none.
      has_rationale: whether it learned from rationales.
      outcomes: for each test question, whether it was right.
      training: the student artefact's summary.
      scores: the score artefact's summary.
      before: summary of the scores before training, if asked for.
      selection: where the stored pairs went, in counts.
      chosen_by: how the reported epoch was chosen: "last", "best_on_validation" or "best_on_test".
      epoch: the reported one.
    """

    name: str
    arm: str
    diversity: int | None
    per_question: int | None
    has_rationale: bool
    outcomes: list[bool]
    training: dict[str, Any]
    scores: dict[str, Any]
    before: dict[str, Any] | None
    selection: dict[str, int]
    chosen_by: str
    epoch: float


@dataclasses.dataclass(frozen=True)
class ArmResult:
    """Trials of one arm: mean accuracy over seeds, its 95% interval, and each seed's accuracy."""

    arm: str
    trials: list[TrialResult]
    accuracy: float
    interval: Interval

    @property
    def by_seed(self) -> list[float]:
        return [trial.scores["accuracy"] for trial in self.trials]

    def mean(self, part: str, name: str) -> float:
        """Mean over the seeds of a number of `training`, `scores` or `selection`."""
        return sum(getattr(trial, part)[name] for trial in self.trials) / len(self.trials)


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
            _interval([trial.outcomes for trial in trials]),
        )
        for arm, trials in groups.items()
    ]


def _interval(outcomes: list[list[bool]]) -> Interval:
    """Wilson's for one seed, where only the questions are a sample; over several seeds the bootstrap's."""
    if len(outcomes) == 1:
        return wilson(sum(outcomes[0]), len(outcomes[0]))
    return over_seeds(outcomes)
