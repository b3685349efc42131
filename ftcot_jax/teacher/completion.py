"""Completions in the authors' CompletionDataset JSON, read, checked and written."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ftcot_jax.errors import FtcotError, UsageError
from ftcot_jax.tasks.question import Question


@dataclasses.dataclass(frozen=True, slots=True)
class Completion:
    """One row of the authors' format, its fields in their order; `reasoning_*` are null for one-step texts."""

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
    try:
        text = Path(path).read_text()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
    try:
        raw = json.loads(text)
    except json.JSONDecodeError as error:
        raise FtcotError(f"{path}, line {error.lineno}: not JSON ({error.msg})") from error
    if not isinstance(raw, dict) or not isinstance(raw.get("data"), dict):
        raise FtcotError(f"{path}: not a completion file; it needs an object with 'metadata' and 'data'")
    completions: dict[tuple[int, int], Completion] = {}
    for key, rows in raw["data"].items():
        for number, row in enumerate(rows):
            completion = _completion(row, f"{path}, data[{key!r}], row {number}")
            place = (completion.sample_index, completion.completion_index)
            if str(completion.sample_index) != key:
                raise FtcotError(f"{path}, data[{key!r}], row {number}: its sample_index is {completion.sample_index}")
            if place in completions:
                raise FtcotError(f"{path}, data[{key!r}], row {number}: completion_index {place[1]} is there twice")
            completions[place] = completion
    return CompletionFile(raw.get("metadata", {}), [completions[place] for place in sorted(completions)])


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
    with partial.open("w") as file:
        file.write(f'{{\n "metadata": {_indented(dict(metadata), 1)},\n "data": {{')
        for index, group in itertools.groupby(completions, key=lambda row: row.sample_index):
            rows = [dataclasses.asdict(row) for row in group]
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
    return json.dumps(value, indent=1, ensure_ascii=False).replace("\n", "\n" + " " * depth)


def import_completions(path: str | os.PathLike[str], questions: Mapping[int, Question]) -> list[Completion]:
    """Reads published completions in place of sampling.

    Args:
      path: a CompletionDataset file.
      questions: the task's, by sample index.

    Raises:
      FtcotError: as `read_completions`, or a row is of a question the task does not have.
    """
    completions = read_completions(path).completions
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
    return completions


def _completion(row: Any, where: str) -> Completion:
    if not isinstance(row, dict):
        raise FtcotError(f"{where}: not an object")
    for name, kinds in _TYPES.items():
        if name not in row:
            raise FtcotError(f"{where}: '{name}' is missing")
        if not isinstance(row[name], kinds) or isinstance(row[name], bool):
            raise FtcotError(f"{where}: '{name}' is {row[name]!r}, not of the right kind")
    return Completion(**{name: row[name] for name in _TYPES})
