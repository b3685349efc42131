"""Reads figures.csv: what "Large Language Models Are Reasoning Teachers" (arXiv 2212.10071) reports, a row a figure."""

from __future__ import annotations

import csv
import dataclasses
import functools
import importlib.resources
from typing import Any, Literal, get_args

from ftcot_jax.errors import UsageError, nearest

Method = Literal[
    "zs", "zs_cot", "fs_cot", "ft", "ft_cot", "ft_cot_diverse", "teacher", "random", "answer_distribution", "majority"
]
Kind = Literal["exact", "digitised", "approximate", "computed"]
Measure = Literal["accuracy", "best_epoch", "finished_share", "accuracy_finished", "accuracy_cut"]


@dataclasses.dataclass(frozen=True)
class PublishedFigure:
    """One figure. What was not run has no row, nor has a student of a teacher that was never right.

    Attributes:
      table: its section of our notes on the paper: 6a OpenAI students, 6b T5, 6c Flan-T5, 6d GPT-2, 6e over D, 6f over
        training questions, 6g over teachers, 6h over answer lengths, 6 baselines, 4 learning rate x batch.
      dataset: the task's key.
      method: zs and zs_cot ask without training, fs_cot with exemplars; ft trains on answers, ft_cot on one rationale
        a question, ft_cot_diverse on D drawn at temperature 0.7; teacher is the teacher itself; random guesses, answers
        guessed as often as they occur (answer_distribution) and the commonest training answer (majority) are levels.
      family, student, size: gpt3, t5, flan-t5 or gpt2; the student's name; its size as the paper writes it. None for
        a level; a teacher has no `student`.
      diversity: D; None where there are no rationales.
      train_questions: questions of the training split that were used; None where nothing is trained.
      teacher, teacher_temperature: who wrote the rationales, and how they were drawn; None where there are none.
      max_tokens: longest answer of the student (of the teacher, longest rationale); None for levels.
      learning_rate, batch_size: where they are not the paper's usual ones, else None.
      measure: what the value is; best_epoch counts from 1, all others are percent.
      value: percent, or an epoch.
      kind: exact is printed somewhere; digitised is read off a plot, to 0.3 points; approximate is read off one less
        surely; computed is ours, from the public data.
      source: notebook and cell of the authors' repository.
    """

    table: str
    dataset: str
    method: Method
    family: str | None
    student: str | None
    size: str | None
    diversity: int | None
    train_questions: int | None
    teacher: str | None
    teacher_temperature: float | None
    max_tokens: int | None
    learning_rate: float | None
    batch_size: int | None
    measure: Measure
    value: float
    kind: Kind
    source: str


_FIELDS = {field.name: field for field in dataclasses.fields(PublishedFigure)}
_NUMBERS = {
    "diversity": int,
    "train_questions": int,
    "max_tokens": int,
    "batch_size": int,
    "teacher_temperature": float,
    "learning_rate": float,
    "value": float,
}


def published_figures(**wanted: Any) -> list[PublishedFigure]:
    """The figures whose fields are as wanted, in the file's order; all of them if nothing is wanted.

    Args:
      **wanted: a field's name and its value, or a list of values; e.g. table="6e", dataset=["svamp", "multiarith"].

    Raises:
      UsageError: there is no such field.
    """
    unknown = next((name for name in wanted if name not in _FIELDS), None)
    if unknown is not None:
        raise UsageError(f"published figures: no field is called '{unknown}'{nearest(unknown, list(_FIELDS))}")
    allowed = {name: value if isinstance(value, list | tuple | set) else (value,) for name, value in wanted.items()}
    return [row for row in _all() if all(getattr(row, name) in values for name, values in allowed.items())]


@functools.cache
def _all() -> tuple[PublishedFigure, ...]:
    text = (importlib.resources.files("ftcot_jax.sweeps.published") / "figures.csv").read_text(encoding="utf-8")
    rows = tuple(_typed(row) for row in csv.DictReader(text.splitlines()))
    for row in rows:
        assert row.method in get_args(Method), row
        assert row.kind in get_args(Kind), row
        assert row.measure in get_args(Measure), row
    return rows


def _typed(row: dict[str, str]) -> PublishedFigure:
    values: dict[str, Any] = {name: _NUMBERS.get(name, str)(text) if text else None for name, text in row.items()}
    return PublishedFigure(**values)
