"""Completions in the authors' CompletionDataset JSON, read, checked and written."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ftcot_jax.errors import FtcotError
from ftcot_jax.tasks.question import Question
from ftcot_jax.tasks.templates import TEMPLATE_NAMES
from ftcot_jax.text_files import json_text, read_json


@dataclasses.dataclass(frozen=True, slots=True)
class Completion:
    """One row of the authors' format, its fields in their order; `reasoning_*` are null for one-step texts.

    Attributes:
      extra: whatever else a row that was read holds.
      absent: fields it does not have; their value is None. The authors' local students write no reasoning.
    """

    sample_index: int
    completion_index: int
    question: str
    answer: str
    reasoning_prompt: str | None
    reasoning_completion: str | None
    reasoning_finish_reason: str | None
    prompt: str
    completion: str
    finish_reason: str | None
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict, hash=False)
    absent: tuple[str, ...] = ()

    def row(self) -> dict[str, Any]:
        """The row as it was read, or as the authors would write it."""
        known = {name: getattr(self, name) for name in _TYPES if name not in self.absent}
        return known | dict(self.extra)


@dataclasses.dataclass(frozen=True)
class CompletionFile:
    """A file's metadata and its rows, ordered by question and completion."""

    metadata: dict[str, Any]
    completions: list[Completion]


_TYPES: dict[str, tuple[type, ...]] = {
    "sample_index": (int,),
    "completion_index": (int,),
    "question": (str,),
    "answer": (str,),
    "reasoning_prompt": (str, type(None)),
    "reasoning_completion": (str, type(None)),
    "reasoning_finish_reason": (str, type(None)),
    "prompt": (str,),
    "completion": (str,),
    "finish_reason": (str, type(None)),
}


def read_completions(path: str | os.PathLike[str]) -> CompletionFile:
    """Reads a CompletionDataset file.

    Raises:
      UsageError: there is no such file.
      FtcotError: it is not JSON, or a row lacks a field, has one of the wrong kind, or is there twice.
    """
    raw = read_json(path)
    if not isinstance(raw, dict) or not isinstance(raw.get("data"), dict):
        raise FtcotError(f"{path}: not a completion file; it needs an object with 'metadata' and 'data'")
    metadata = raw.get("metadata", {})
    if not isinstance(metadata, dict):
        raise FtcotError(f"{path}: 'metadata' is {str(metadata)[:60]!r}, not an object")
    template = metadata.get("prediction_template")
    if template is not None and template not in TEMPLATE_NAMES:
        raise FtcotError(
            f"{path}: metadata: prediction_template is {template!r}; it can be null or {', '.join(TEMPLATE_NAMES)}"
        )
    completions: dict[tuple[int, int], Completion] = {}
    for key in list(raw["data"]):
        rows = raw["data"].pop(key)  # what was parsed goes as its completions come, so that it is not there twice
        if not isinstance(rows, list):
            raise FtcotError(f"{path}, data[{key!r}]: not a list of rows")
        for number, row in enumerate(rows):
            completion = _completion(row, f"{path}, data[{key!r}], row {number}")
            place = (completion.sample_index, completion.completion_index)
            if str(completion.sample_index) != key:
                raise FtcotError(f"{path}, data[{key!r}], row {number}: its sample_index is {completion.sample_index}")
            if place in completions:
                raise FtcotError(f"{path}, data[{key!r}], row {number}: completion_index {place[1]} is there twice")
            completions[place] = completion
    return CompletionFile(metadata, [completions[place] for place in sorted(completions)])


def write_completions(
    path: str | os.PathLike[str], metadata: Mapping[str, Any], completions: Iterable[Completion]
) -> int:
    """Writes a CompletionDataset file, a question at a time; returns the number of completions.

    A reader sees the old file or the new one, never half of it.

    Args:
      path: of the file.
      metadata: the authors' fields and others.
      completions: the rows of one question next to each other.

    Raises:
      ValueError: the rows of a question are apart.
    """
    final = Path(path)
    partial = final.with_name(f".{final.name}.{os.getpid()}.partial")
    written: set[int] = set()
    count = 0
    with partial.open("w", encoding="utf-8") as file:
        file.write(f'{{\n "metadata": {_indented(dict(metadata), 1)},\n "data": {{')
        for index, group in itertools.groupby(completions, key=lambda row: row.sample_index):
            rows = [row.row() for row in group]
            if index in written:
                raise ValueError(f"the completions of question {index} are not next to each other")
            file.write(f'{"," if written else ""}\n  "{index}": {_indented(rows, 2)}')
            written.add(index)
            count += len(rows)
        file.write("\n }\n}" if written else "}\n}")
    partial.replace(final)
    return count


def _indented(value: Any, depth: int) -> str:
    """JSON as `indent=1` writes it so deep inside another value."""
    return json_text(value, indent=1).replace("\n", "\n" + " " * depth)


def import_completions(path: str | os.PathLike[str], questions: Mapping[int, Question]) -> list[Completion]:
    """Reads published completions in place of sampling.

    Args:
      path: a CompletionDataset file.
      questions: the task's, by sample index.

    Raises:
      FtcotError: as `read_completions`, or a row is of a question the task does not have.
    """
    completions = read_completions(path).completions
    check_questions(path, completions, questions)
    return completions


def check_questions(
    path: str | os.PathLike[str], completions: Iterable[Completion], questions: Mapping[int, Question]
) -> None:
    """Holds completions against the task they should be of.

    Raises:
      FtcotError: a row is of a question the task does not have, or has another text.
    """
    for row in completions:
        where = f"{path}, sample_index {row.sample_index}, completion_index {row.completion_index}"
        question = questions.get(row.sample_index)
        if question is None:
            raise FtcotError(f"{where}: the task has no question {row.sample_index} (it has {len(questions)})")
        if question.question.strip() != row.question.strip():
            raise FtcotError(
                f"{where}: its question is {row.question[:60]!r} and the task's is {question.question[:60]!r}; "
                "the file belongs to another task or version"
            )


def _completion(row: Any, where: str) -> Completion:
    if not isinstance(row, dict):
        raise FtcotError(f"{where}: not an object")
    absent = tuple(name for name in _TYPES if name not in row)
    for name, kinds in _TYPES.items():
        if name in absent and type(None) in kinds:
            continue
        if name in absent:
            raise FtcotError(f"{where}: '{name}' is missing")
        if not isinstance(row[name], kinds) or isinstance(row[name], bool):
            raise FtcotError(f"{where}: '{name}' is {row[name]!r}, not of the right kind")
    known: dict[str, Any] = {name: row.get(name) for name in _TYPES}
    extra = {name: value for name, value in row.items() if name not in _TYPES}
    return Completion(**known, extra=extra, absent=absent)
