"""Pairs of prompt and label, the text a student is trained on."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ftcot_jax.rationales.judge import Judged
from ftcot_jax.tasks.task import TaskData
from ftcot_jax.tasks.templates import Template


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """One training text; `correct` tells whether the teacher's answer was right."""

    sample_index: int
    completion_index: int
    prompt: str
    label: str
    correct: bool


def rationale_pairs(data: TaskData, judged: Sequence[Judged], template: Template) -> list[Pair]:
    """A pair of every judged completion of a training question; the label has the gold answer, as in the paper."""
    train = set(data.split.train)
    pairs = []
    for row in judged:
        if row.sample_index in train:
            question = data.questions[row.sample_index]
            label = template.label(question.answer, row.rationale)
            pairs.append(
                Pair(
                    row.sample_index,
                    row.completion_index,
                    template.prompt(question.question),
                    label,
                    row.correct,
                )
            )
    return pairs


def answer_pairs(data: TaskData, template: Template) -> list[Pair]:
    """A pair of every training question and its gold answer, for students that learn answers only."""
    return [
        Pair(
            question.sample_index,
            0,
            template.prompt(question.question),
            template.label(question.answer),
            True,
        )
        for question in data.of(data.split.train)
    ]
