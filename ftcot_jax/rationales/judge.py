"""Verdicts: which of the teacher's completions end in the right answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from ftcot_jax.tasks.scoring import Scoring, score
from ftcot_jax.tasks.task import TaskData
from ftcot_jax.teacher.completion import Completion


@dataclasses.dataclass(frozen=True, slots=True)
class Judged:
    """A completion with its verdict; `rationale` is the teacher's reasoning, `prediction` its answer."""

    sample_index: int
    completion_index: int
    rationale: str
    prediction: str | None
    correct: bool


def judge(
    data: TaskData, completions: Iterable[Completion], answer_prefix: str | None = None, scoring: Scoring = "paper"
) -> Iterator[Judged]:
    """Judges each completion by the answer in its last step, one after another.

    Args:
      data: the task the completions are of.
      completions: with a rationale of their own (two steps), or one text that reasons and answers.
      answer_prefix: of the template the teacher was asked with; in a text of one step the rationale ends there.
      scoring: whose rules; the paper's filter takes the first candidate of the second step.
    """
    for row in completions:
        verdict = score(data.task, row.completion, data.questions[row.sample_index].answer, answer_prefix, scoring)
        rationale = row.reasoning_completion
        if rationale is None:
            rationale = row.completion.partition(answer_prefix)[0] if answer_prefix else row.completion
        yield Judged(row.sample_index, row.completion_index, rationale, verdict.prediction, verdict.correct)
