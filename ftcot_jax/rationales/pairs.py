"""Pairs of prompt and label, the text a student is trained on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator

from ftcot_jax.errors import FtcotError
from ftcot_jax.rationales.judge import Judged
from ftcot_jax.tasks.task import TaskData
from ftcot_jax.tasks.templates import Template


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """One training text.

    Attributes:
      sample_index: its question.
      completion_index: which of the question's completions.
      prompt: what the student is asked.
      label: what it learns to write, without the end token.
      correct: whether the teacher's answer was right.
      rationale: the teacher's reasoning, as it wrote it; empty where the student learns answers only.
      answer: the answer in the label; empty if there is none to put there.
      prediction: the teacher's answer.
    """

    sample_index: int
    completion_index: int
    prompt: str
    label: str
    correct: bool
    rationale: str = ""
    answer: str = ""
    prediction: str | None = None


def rationale_pairs(
    data: TaskData,
    judged: Iterable[Judged],
    template: Template,
    prompt_of: Callable[[str], str],
    own_answer: bool = False,
) -> Iterator[Pair]:
    """A pair of every judged completion of a training question, one after another.

    Args:
      data: the task.
      judged: completions with their verdicts.
      template: forms the label.
      prompt_of: forms the prompt of a question's text.
      own_answer: the label has the teacher's own answer, for selection without gold answers; else the gold one, as
        in the paper, or the teacher's where there is none.
    """
    train = set(data.split.train)
    for row in judged:
        if row.sample_index in train:
            question = data.questions[row.sample_index]
            answer = (row.prediction or "") if own_answer or not question.answer else question.answer
            yield Pair(
                row.sample_index,
                row.completion_index,
                prompt_of(question.question),
                template.label(answer, row.rationale),
                row.correct,
                row.rationale,
                answer,
                row.prediction,
            )


def answer_pairs(data: TaskData, template: Template, prompt_of: Callable[[str], str]) -> Iterator[Pair]:
    """A pair of every training question and its gold answer, for students that learn answers only.

    Raises:
      FtcotError: a training question has no gold answer.
    """
    for question in data.of(data.split.train):
        if not question.answer:
            raise FtcotError(f"{data.task.key}: question {question.sample_index} has no answer for {template.name}")
        label = template.label(question.answer)
        yield Pair(question.sample_index, 0, prompt_of(question.question), label, True, answer=question.answer)
