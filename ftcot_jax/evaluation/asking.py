"""How questions are put to a student, and which are."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

from ftcot_jax.errors import FtcotError
from ftcot_jax.tasks.question import Question
from ftcot_jax.tasks.scoring import Scoring
from ftcot_jax.tasks.task import TaskData
from ftcot_jax.tasks.templates import Template

Part = Literal["test", "validation"]


@dataclasses.dataclass(frozen=True)
class Asking:
    """How questions are put and answers read.

    Attributes:
      template: with its exemplars filled in.
      prompt_of: the prompt it makes of a question.
      scoring: whose rules.
      shown: sample indices of questions that the prompt shows solved; they are not asked.
      second_of: from a question, its prompt and the text that followed to a second prompt that asks for the answer,
        as Zero-shot-CoT does; None where the first text holds it.
    """

    template: Template
    prompt_of: Callable[[str], str]
    scoring: Scoring
    shown: tuple[int, ...] = ()
    second_of: Callable[[str, str, str], str] | None = None


def questions_of(data: TaskData, part: Part, limit: int | None, shown: Sequence[int] = ()) -> list[Question]:
    """A part of the split without the questions that are shown, or `limit` of it evenly spaced.

    Raises:
      FtcotError: the part is empty, or one of its questions has no gold answer.
    """
    whole = data.split.test if part == "test" else data.split.validation
    indices = [index for index in whole if index not in shown]
    if not indices:
        raise FtcotError(f"{data.task.key}: the {part} split is empty; there is nothing to evaluate on")
    count = len(indices) if limit is None else min(limit, len(indices))
    questions = data.of([indices[place * len(indices) // count] for place in range(count)])
    unanswered = [question.sample_index for question in questions if not question.answer]
    if unanswered:
        raise FtcotError(
            f"{data.task.key}: question {unanswered[0]} of the {part} split has no answer to score against"
        )
    return questions
