"""Completions in the authors' CompletionDataset JSON, read, checked and written."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from ftcot_jax.errors import FtcotError
from ftcot_jax.json_stream import JsonStream
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


class StoredCompletions:
    """The completions of a file, ordered by question and completion, read anew at each pass.

    Opening the file goes through all of it once, for what follows the last question may still be wrong.

    Args:
      path: of the file.

    Attributes:
      metadata: the file's.

    Raises:
      UsageError: there is no such file.
      FtcotError: it is not JSON or of another form; on a pass, a row lacks a field, has one of the wrong kind, or is
        there twice.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = path
        self._keys, self._starts, self._lengths = array("q"), array("q"), array("q")  # of each question in the file
        self._rows = 0
        try:
            with open(path, "rb") as file:
                found = self._walk(JsonStream(file))
            order = np.argsort(np.asarray(self._keys), kind="stable")
            if np.any(np.diff(np.asarray(self._keys)[order]) == 0):
                raise ValueError("a question is there twice")
        except (OSError, ValueError, RecursionError) as error:
            read_json(path)  # which says where
            raise FtcotError(f"{path}: not a completion file ({error})") from error
        self._order = order
        self.metadata = _checked_metadata(path, found)

    def __len__(self) -> int:
        return self._rows

    def __iter__(self) -> Iterator[Completion]:
        with open(self._path, "rb") as file:
            for place in self._order.tolist():
                yield from self._read(file, place)

    def of(self, sample_index: int) -> list[Completion]:
        """One question's completions; none of a question that the file does not have."""
        keys = np.asarray(self._keys)
        nearest = int(np.searchsorted(keys, sample_index, sorter=self._order))
        if nearest == len(keys) or keys[self._order[nearest]] != sample_index:
            return []
        with open(self._path, "rb") as file:
            return self._read(file, int(self._order[nearest]))

    def _read(self, file: BinaryIO, place: int) -> list[Completion]:
        file.seek(self._starts[place])
        ((key, rows),) = json.loads(f"{{{file.read(self._lengths[place]).decode()}}}").items()
        return self._question(key, rows)

    def _question(self, key: str, rows: Any) -> list[Completion]:
        where = f"{self._path}, data[{key!r}]"
        if not isinstance(rows, list):
            raise FtcotError(f"{where}: not a list of rows")
        completions: dict[int, Completion] = {}
        for number, row in enumerate(rows):
            completion = _completion(row, f"{where}, row {number}")
            index = completion.completion_index
            if str(completion.sample_index) != key:
                raise FtcotError(f"{where}, row {number}: its sample_index is {completion.sample_index}")
            if index in completions:
                raise FtcotError(f"{where}, row {number}: completion_index {index} is there twice")
            completions[index] = completion
        return [completions[index] for index in sorted(completions)]

    def _walk(self, text: JsonStream) -> dict[str, Any]:
        """Notes where the questions are; returns what stands beside them."""
        if text.peek() != "{":
            read_json(self._path)
            raise FtcotError(_not_one(self._path))
        found: dict[str, Any] = {}
        for key in text.each_key():
            if key in found:
                raise ValueError(f"'{key}' is there twice")
            if key != "data" or text.peek() != "{":
                found[key] = text.value()
                continue
            found[key] = {}
            for question in text.each_key():
                rows = text.value()
                self._rows += len(rows) if isinstance(rows, list) else 0
                self._keys.append(_number(question, len(self._keys)))
                self._starts.append(text.key_start)
                self._lengths.append(text.position - text.key_start)
        if text.peek():
            raise ValueError("there is more after its end")
        return found


def read_completions(path: str | os.PathLike[str]) -> CompletionFile:
    """Reads a CompletionDataset file whole; raises as `StoredCompletions`."""
    stored = StoredCompletions(path)
    return CompletionFile(stored.metadata, list(stored))


class Written(NamedTuple):
    """What a file holds, in numbers."""

    questions: int
    completions: int


def write_completions(
    path: str | os.PathLike[str], metadata: Mapping[str, Any], completions: Iterable[Completion]
) -> Written:
    """Writes a CompletionDataset file, a question at a time.

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
    return Written(len(written), count)


def _indented(value: Any, depth: int) -> str:
    """JSON as `indent=1` writes it so deep inside another value."""
    return json_text(value, indent=1).replace("\n", "\n" + " " * depth)


def import_completions(path: str | os.PathLike[str], questions: Mapping[int, Question]) -> list[Completion]:
    """Reads published completions in place of sampling.

    Args:
      path: a CompletionDataset file.
      questions: the task's, by sample index.

    Raises:
      FtcotError: as `StoredCompletions`, or a row is of a question the task does not have.
    """
    return list(checked(path, StoredCompletions(path), questions))


def checked(
    path: str | os.PathLike[str], completions: Iterable[Completion], questions: Mapping[int, Question]
) -> Iterator[Completion]:
    """Completions, each held against the task it should be of.

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
        yield row


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


def _number(key: str, place: int) -> int:
    """A question's place among the others; a key that is no number is last, for its rows to be refused."""
    try:
        number = int(key)
    except ValueError:
        number = 0
    return number if str(number) == key and abs(number) < 2**62 else 2**62 + place


def _not_one(path: str | os.PathLike[str]) -> str:
    return f"{path}: not a completion file; it needs an object with 'metadata' and 'data'"


def _checked_metadata(path: str | os.PathLike[str], found: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(found.get("data"), dict):
        raise FtcotError(_not_one(path))
    metadata = found.get("metadata", {})
    if not isinstance(metadata, dict):
        raise FtcotError(f"{path}: 'metadata' is {str(metadata)[:60]!r}, not an object")
    template = metadata.get("prediction_template")
    if template is not None and template not in TEMPLATE_NAMES:
        raise FtcotError(
            f"{path}: metadata: prediction_template is {template!r}; it can be null or {', '.join(TEMPLATE_NAMES)}"
        )
    return metadata
