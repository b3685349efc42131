"""What a task is: where its questions come from, and what form its answers have."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

from ftcot_jax.errors import FtcotError
from ftcot_jax.tasks.question import Question

AnswerType = Literal["integer", "float", "choice", "yes_no", "letters", "word", "text"]
Texts = list[tuple[str, str]]


@dataclasses.dataclass(frozen=True)
class Source:
    """A file of a public repository at a pinned commit.

    Attributes:
      repository: OWNER/REPO.
      commit: 40 hex digits.
      path: inside the repository.
      sha256: of its bytes; None where the commit alone pins it.
      rows: questions in it, where the task can do without the file (its other questions keep their indices);
        None where it cannot.
    """

    repository: str
    commit: str
    path: str
    sha256: str | None
    rows: int | None = None

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
      choices: the letters or words an answer of type "choice" or "word" can be.
      size: questions in it, train and test together; None where the user decides.
      sources: files its questions are read from, in order; none for a generated task.
      read: maps the text of one source, and the file name for errors, to (question, answer) texts in order.
      train_size: first so many samples are for training; None for the paper's random 70%.
      train_sample: of those, a seed-0 sample of this many is used; None for all of them.
      arithmetic: whether its rationales are calculations, so that equal equations are equal reasoning.
      template_of: what questions made from one template share; None where the authors have no template-wise split.
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
    read: Callable[[str, str], Texts] | None = None
    train_size: int | None = None
    train_sample: int | None = None
    arithmetic: bool = False
    template_of: Callable[[str], str] | None = None


@dataclasses.dataclass(frozen=True)
class Split:
    """Sample indices for training, testing and validation, each sorted; none is in two of them."""

    train: tuple[int, ...]
    test: tuple[int, ...]
    validation: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class TaskData:
    """A task with its questions, by sample index.

    Attributes:
      vocabulary: every word its questions, rationales and answers can use, for a generated task; else empty.
      missing: what could not be had, in one line; None if everything is there.
    """

    task: Task
    questions: dict[int, Question]
    split: Split
    vocabulary: Sequence[str] = ()
    missing: str | None = None

    def of(self, indices: Sequence[int]) -> list[Question]:
        """The questions with these sample indices, in that order.

        Raises:
          FtcotError: one of them could not be had.
        """
        try:
            return [self.questions[index] for index in indices]
        except KeyError as absent:
            raise FtcotError(f"{self.task.key}: question {absent} is not there: {self.missing}") from None
