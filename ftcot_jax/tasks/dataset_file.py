"""The authors' dataset and split JSON, read and written without loss."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from ftcot_jax.errors import FtcotError
from ftcot_jax.tasks.question import Question
from ftcot_jax.tasks.task import Split
from ftcot_jax.text_files import read_json, write_json

_FIELDS = {"sample_index": int, "question": str, "answer": str}


@dataclasses.dataclass(frozen=True)
class DatasetFile:
    """A dataset file: its metadata and its rows, with whatever else a row holds."""

    metadata: dict[str, Any]
    rows: list[dict[str, Any]]

    @property
    def questions(self) -> dict[int, Question]:
        """By sample index."""
        return {row["sample_index"]: Question(*(row[name] for name in _FIELDS)) for row in self.rows}


def read_dataset(path: str | os.PathLike[str]) -> DatasetFile:
    """Reads ``{"metadata": {...}, "data": [{"sample_index", "question", "answer", ...}, ...]}``.

    Raises:
      UsageError: there is no such file.
      FtcotError: it is of another form, or a sample_index is there twice.
    """
    raw = read_json(path)
    if not isinstance(raw, dict) or not isinstance(raw.get("data"), list) or not raw["data"]:
        raise FtcotError(f"{path}: not a dataset; it needs an object with 'metadata' and a list 'data'")
    seen: set[int] = set()
    for number, row in enumerate(raw["data"]):
        if not isinstance(row, dict):
            raise FtcotError(f"{path}, data[{number}]: not an object")
        for name, kind in _FIELDS.items():
            if not isinstance(row.get(name), kind) or isinstance(row[name], bool):
                raise FtcotError(f"{path}, data[{number}]: '{name}' is {row.get(name)!r}, not of the right kind")
        if row["sample_index"] in seen:
            raise FtcotError(f"{path}, data[{number}]: sample_index {row['sample_index']} is there twice")
        seen.add(row["sample_index"])
    return DatasetFile(raw.get("metadata", {}), raw["data"])


def write_dataset(path: str | os.PathLike[str], dataset: DatasetFile) -> None:
    """Writes a dataset file; a reader sees the old one or the new one, never half of it."""
    write_json(path, {"metadata": dataset.metadata, "data": dataset.rows}, indent=4)


def as_dataset(key: str, questions: Mapping[int, Question]) -> DatasetFile:
    """A task's questions as a dataset file's content, in order of their indices."""
    return DatasetFile({"dataset_key": key}, [dataclasses.asdict(questions[index]) for index in sorted(questions)])


def write_split(path: str | os.PathLike[str], split: Split) -> None:
    """Writes a split file: lists "train" and "test", and "validation" if there is one."""
    parts = {"train": split.train, "test": split.test}
    write_json(path, parts | ({"validation": split.validation} if split.validation else {}), indent=4)
