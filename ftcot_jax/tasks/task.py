"""What a task is: where its questions come from, and what form its answers have."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

from ftcot_jax.tasks.question import Question

AnswerType = Literal["integer", "float", "yes_no", "letters", "word"]


@dataclasses.dataclass(frozen=True)
class Source:
    """A file of a public repository at a pinned commit; `sha256` is of its bytes."""

    repository: str
    commit: str
    path: str
    sha256: str

    @property
    def place(self) -> str:
        """Where a mirror keeps it: OWNER/REPO/COMMIT/PATH."""
        return f"{self.repository}/{self.commit}/{self.path}"


@dataclasses.dataclass(frozen=True)
class Task:
    """A benchmark.

    Attributes:
      key: the reference's name of it.
      answer_type: decides how answers are found in text and compared.
      choices: the words an answer of type "word" can be.
      size: questions in it, train and test together; None where the user decides.
      sources: files its questions are read from, in order; none for a generated task.
      read: maps the text of one source, and the file name for errors, to (question, answer) texts in order.
      train_size: first so many samples are for training; None for the paper's random 70%.
      licence: of the upstream files.
      citation: of the paper that made it.
    """

    key: str
    answer_type: AnswerType
    licence: str
    citation: str
    choices: tuple[str, ...] = ()
    size: int | None = None
    sources: tuple[Source, ...] = ()
    read: Callable[[str, str], list[tuple[str, str]]] | None = None
    train_size: int | None = None


@dataclasses.dataclass(frozen=True)
class Split:
    """Sample indices for training and for testing, each sorted; they never overlap."""

    train: tuple[int, ...]
    test: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class TaskData:
    """A task with its questions, by sample index.

    Attributes:
      vocabulary: every word its questions, rationales and answers can use, for a generated task; else empty.
    """

    task: Task
    questions: dict[int, Question]
    split: Split
    vocabulary: Sequence[str] = ()

    def of(self, indices: Sequence[int]) -> list[Question]:
        """The questions with these sample indices, in that order."""
        return [self.questions[index] for index in indices]
