"""Records as flat arrays: what the plan reads on the host and what the device gathers from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


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
        lengths = self.lengths[numbers]
        tokens, offsets = np.empty(int(lengths.sum()), np.int32), _starts(lengths)
        for at, length, start in zip(offsets.tolist(), lengths.tolist(), self.offsets[numbers].tolist(), strict=True):
            tokens[at : at + length] = self.tokens[start : start + length]
        names = ("prompt_lengths", "sample_index", "completion_index", "correct")
        return RecordTable(tokens, offsets, lengths, **{name: getattr(self, name)[numbers] for name in names})

    def questions(self) -> np.ndarray:
        """(N,) int32: a number of each record's question, equal where the prompts' tokens are."""
        known: dict[bytes, int] = {}
        ends = self.offsets + self.prompt_lengths
        prompts = (self.tokens[start:end].tobytes() for start, end in zip(self.offsets, ends, strict=True))
        return np.fromiter((known.setdefault(prompt, len(known)) for prompt in prompts), np.int32, len(self))

    @classmethod
    def from_rows(cls, rows: Sequence[Mapping[str, Any]]) -> RecordTable:
        """Builds a table from records with ``input_ids``, ``label_ids`` and their indices."""
        prompts = np.array([len(row["input_ids"]) for row in rows], np.int32)
        lengths = prompts + np.array([len(row["label_ids"]) for row in rows], np.int32)
        pieces = [part for row in rows for part in (row["input_ids"], row["label_ids"])]
        return cls(
            tokens=np.concatenate(pieces).astype(np.int32) if pieces else np.zeros(0, np.int32),
            offsets=_starts(lengths),
            lengths=lengths,
            prompt_lengths=prompts,
            sample_index=np.array([row["sample_index"] for row in rows], np.int64),
            completion_index=np.array([row["completion_index"] for row in rows], np.int64),
            correct=np.array([row["correct"] for row in rows], bool),
        )

    @classmethod
    def join(cls, tables: Sequence[RecordTable]) -> RecordTable:
        """One table of all records, so that trials on different record sets share one device array."""
        if len(tables) == 1:
            return tables[0]  # not copied: its tokens may be a mapped file
        fields = {
            field.name: np.concatenate([getattr(table, field.name) for table in tables])
            for field in dataclasses.fields(cls)
            if field.name != "offsets"
        }
        return cls(**fields, offsets=_starts(fields["lengths"]))


def _starts(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)[:-1]]) if len(lengths) else np.zeros(0, np.int64)
