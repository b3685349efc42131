"""What records take of a row's room, and how a batch of them is packed into it."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np

from ftcot_jax.records.packing import Packing, pack, pack_questions
from ftcot_jax.records.table import RecordTable

Kind = Literal["decoder", "encoder_decoder"]


def part_lengths(table: RecordTable, kind: Kind) -> np.ndarray:
    """(N, P) int32: what each record takes of its row's room.

    A decoder reads prompt and label as one text. An encoder-decoder's target is the label, each token predicted
    from the one before it, its source the prompt with the end token.
    """
    if kind == "decoder":
        return table.lengths[:, None]
    return np.stack([table.label_lengths, table.prompt_lengths + 1], 1)


@dataclasses.dataclass(frozen=True, eq=False)
class Sizes:
    """What records take of a row's room.

    Attributes:
      lengths: (N, P) int32 tokens of each part of each record.
      labels: (N,) int32 label tokens of each record.
      asked: (N, P) int32, how many of `lengths` are the question's.
      question: (N,) int32, records of one number share their question's tokens; None where each has its own copy.
    """

    lengths: np.ndarray
    labels: np.ndarray
    asked: np.ndarray
    question: np.ndarray | None

    @classmethod
    def of(cls, table: RecordTable, kind: Kind, share_questions: bool = False) -> Sizes:
        """The sizes of all records of a table."""
        lengths, labels = part_lengths(table, kind), table.label_lengths
        asked = lengths.copy()
        asked[:, 0] -= labels
        return cls(lengths, labels, asked, table.questions() if share_questions else None)

    def pack(self, records: np.ndarray, room: tuple[int, ...]) -> Packing:
        """Packs these records; each has its own copy of its question if sharing would take more rows."""
        lengths = self.lengths[records]
        alone = pack(lengths, room)
        if self.question is None:
            return alone
        asked = self.asked[records]
        shared = pack_questions(lengths - asked, asked, self.question[records], room)
        if shared.rows <= alone.rows:
            return shared
        return dataclasses.replace(alone, start=np.stack([alone.start[:, 0] + asked[:, 0], alone.start[:, -1]], 1))
