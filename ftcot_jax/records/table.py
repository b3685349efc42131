"""Records as flat arrays: what the plan reads on the host and what the device gathers from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

COLUMNS = ("tokens", "lengths", "prompt_lengths", "sample_index", "completion_index", "correct")
"""What a table is made of; the rest follows."""


@dataclasses.dataclass(frozen=True)
class RecordTable:
    """N records, prompt then label, end to end in one token array.

    Attributes:
      tokens: (total,) int32, all records one after another.
      offsets: (N,) int64, where each record starts in `tokens`.
      lengths: (N,) int32, tokens of prompt and label.
      prompt_lengths: (N,) int32, tokens of the prompt alone.
      sample_index: (N,) int64, the question.
      completion_index: (N,) int64, which of the teacher's completions.
      correct: (N,) bool, whether the teacher's answer was right.
    """

    tokens: np.ndarray
    offsets: np.ndarray
    lengths: np.ndarray
    prompt_lengths: np.ndarray
    sample_index: np.ndarray
    completion_index: np.ndarray
    correct: np.ndarray

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def label_lengths(self) -> np.ndarray:
        """(N,) int32: tokens that are predicted, the end token among them."""
        return self.lengths - self.prompt_lengths

    def record(self, number: int) -> np.ndarray:
        """(length,) int32: the tokens of one record."""
        start = self.offsets[number]
        return self.tokens[start : start + self.lengths[number]]

    @property
    def device_bytes(self) -> int:
        """Bytes of the table on a device, where all of it is int32."""
        return 4 * (len(self.tokens) + 4 * len(self))

    def only(self, numbers: np.ndarray) -> RecordTable:
        """The table of these records alone, in this order."""
        chosen = {name: getattr(self, name)[numbers] for name in COLUMNS if name != "tokens"}
        lengths = chosen["lengths"]
        tokens, offsets = np.empty(int(lengths.sum()), np.int32), _starts(lengths)
        source = np.asarray(self.tokens)  # slices of a mapped array are slower to make
        for at, length, start in zip(offsets.tolist(), lengths.tolist(), self.offsets[numbers].tolist(), strict=True):
            tokens[at : at + length] = source[start : start + length]
        return RecordTable(tokens, offsets, **chosen)

    def questions(self) -> np.ndarray:
        """(N,) int32: a number of each record's question, equal where the prompts' tokens are."""
        known: dict[bytes, int] = {}
        tokens, ends = np.asarray(self.tokens), self.offsets + self.prompt_lengths
        prompts = (tokens[start:end].tobytes() for start, end in zip(self.offsets, ends, strict=True))
        return np.fromiter((known.setdefault(prompt, len(known)) for prompt in prompts), np.int32, len(self))

    @classmethod
    def of(
        cls,
        tokens: np.ndarray,
        lengths: Sequence[int] | np.ndarray = (),
        prompt_lengths: Sequence[int] | np.ndarray = (),
        sample_index: Sequence[int] | np.ndarray = (),
        completion_index: Sequence[int] | np.ndarray = (),
        correct: Sequence[bool] | np.ndarray = (),
    ) -> RecordTable:
        """Builds a table of records that lie end to end in `tokens`; see the attributes."""
        length_N = np.asarray(lengths, np.int32)
        return cls(
            tokens,
            _starts(length_N),
            length_N,
            np.asarray(prompt_lengths, np.int32),
            np.asarray(sample_index, np.int64),
            np.asarray(completion_index, np.int64),
            np.asarray(correct, bool),
        )

    @classmethod
    def from_rows(cls, rows: Sequence[Mapping[str, Any]]) -> RecordTable:
        """Builds a table from records with ``input_ids``, ``label_ids`` and their indices."""
        pieces = [part for row in rows for part in (row["input_ids"], row["label_ids"])]
        return cls.of(
            np.concatenate(pieces).astype(np.int32) if pieces else np.zeros(0, np.int32),
            [len(row["input_ids"]) + len(row["label_ids"]) for row in rows],
            [len(row["input_ids"]) for row in rows],
            *([row[name] for row in rows] for name in ("sample_index", "completion_index", "correct")),
        )

    @classmethod
    def join(cls, tables: Sequence[RecordTable]) -> RecordTable:
        """One table of all records, so that trials on different record sets share one device array."""
        if len(tables) == 1:
            return tables[0]  # not copied: its tokens may be a mapped file
        return cls.of(**{name: np.concatenate([getattr(table, name) for table in tables]) for name in COLUMNS})


def _starts(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)[:-1]]) if len(lengths) else np.zeros(0, np.int64)
