"""What the test questions share with the training questions: equal texts, and texts of one template."""

from __future__ import annotations

import dataclasses

from ftcot_jax.tasks.splits import plain_text, without_names_and_digits
from ftcot_jax.tasks.task import TaskData


@dataclasses.dataclass(frozen=True)
class Overlap:
    """Test questions that training has seen, in one way or the other.

    Attributes:
      test: test questions in all.
      same_text: those whose text is a training question's too, spaces and case aside.
      same_template: those whose template is a training question's too.
      train_same_text: the training questions of `same_text`.
      train_same_template: the training questions of `same_template`.
      duplicates: questions, of the whole task, whose text an earlier one has.
    """

    test: int
    same_text: tuple[int, ...]
    same_template: tuple[int, ...]
    train_same_text: tuple[int, ...]
    train_same_template: tuple[int, ...]
    duplicates: int


def find_overlap(data: TaskData) -> Overlap:
    """Compares the test split with the training split; questions that could not be had count on neither side."""
    template_of = data.task.template_of or without_names_and_digits
    texts = {index: plain_text(question.question) for index, question in data.questions.items()}
    templates = {index: plain_text(template_of(question.question)) for index, question in data.questions.items()}
    train = [index for index in data.split.train if index in data.questions]
    test = [index for index in data.split.test if index in data.questions]

    def shared(of: dict[int, str]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        seen, asked = {of[index] for index in train}, {of[index] for index in test}
        return tuple(i for i in test if of[i] in seen), tuple(i for i in train if of[i] in asked)

    same_text, train_same_text = shared(texts)
    same_template, train_same_template = shared(templates)
    return Overlap(
        test=len(test),
        same_text=same_text,
        same_template=same_template,
        train_same_text=train_same_text,
        train_same_template=train_same_template,
        duplicates=len(texts) - len(set(texts.values())),
    )
