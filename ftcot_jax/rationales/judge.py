"""Verdicts: which of the teacher's completions end in the right answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ftcot_jax.tasks.scoring import score
from ftcot_jax.tasks.task import TaskData
from ftcot_jax.teacher.completion import Completion


@dataclasses.dataclass(frozen=True, slots=True)
class Judged:
    """A completion with its verdict; `rationale` is the teacher's text of step 1, `prediction` its answer."""

    sample_index: int
    completion_index: int
    rationale: str
    prediction: str | None
    correct: bool


def judge(data: TaskData, completions: Sequence[Completion]) -> list[Judged]:
    """Judges each completion by its step-2 answer: the first candidate in it, as the paper's filter."""
    judged = []
    for row in completions:
        verdict = score(data.task, row.completion, data.questions[row.sample_index].answer, None)
        rationale = row.completion if row.reasoning_completion is None else row.reasoning_completion
        judged.append(Judged(row.sample_index, row.completion_index, rationale, verdict.prediction, verdict.correct))
    return judged
