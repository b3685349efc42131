"""The plan: which records a trial trains on at a step. A pure function; resuming needs only the step.

The order of an epoch comes from raw Philox bits, whose stream numpy guarantees never to change, so a run
resumed under another numpy, on another machine or on another number of hosts sees the same batches.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from ftcot_jax.records.packing import BatchShape, choose_shapes, fitting_shape, pack
from ftcot_jax.records.table import RecordTable

Kind = Literal["decoder", "encoder_decoder"]


@dataclasses.dataclass(frozen=True, eq=False)
class TrialData:
    """What one trial trains on.

    Attributes:
      records: (N,) int, record numbers in the table, in the order of the selection.
      seed: decides the order of every epoch.
      batch_examples: records a step; the last step of an epoch may hold fewer, as in the reference.
    """

    records: np.ndarray
    seed: int
    batch_examples: int

    @property
    def steps_per_epoch(self) -> int:
        return -(-len(self.records) // self.batch_examples)

    def at(self, step: int) -> np.ndarray:
        """(<= batch_examples,) record numbers of optimizer step `step`, counted from 0."""
        epoch, place = divmod(step, self.steps_per_epoch)
        order = self._order(epoch)
        return self.records[order[place * self.batch_examples : (place + 1) * self.batch_examples]]

    def _order(self, epoch: int) -> np.ndarray:
        return _epoch_order(len(self.records), self.seed, epoch)


@functools.lru_cache(maxsize=256)
def _epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    bits = np.random.Philox(key=np.array([seed, epoch], np.uint64)).random_raw(count)
    return np.argsort(bits, kind="stable")


class StepBatch(NamedTuple):
    """One slot's batch at one step, as the few integers the device needs to build it; or S slots', stacked.

    Attributes:
      record: (B,) int32 numbers in the record table, -1 where the batch holds fewer.
      row: (B,) int32 row each record lies in.
      start: (B, P) int32 first position of each of its parts in that row; see `pack`.
    """

    record: np.ndarray
    row: np.ndarray
    start: np.ndarray

    @classmethod
    def empty(cls, shape: BatchShape) -> StepBatch:
        """A batch of no records, for a slot that has no trial."""
        parts = 2 if shape.source_length else 1
        count = shape.examples
        return cls(np.full(count, -1, np.int32), np.zeros(count, np.int32), np.zeros((count, parts), np.int32))


def part_lengths(table: RecordTable, kind: Kind) -> np.ndarray:
    """(N, P) int32: what each record takes of its row's room.

    A decoder reads prompt and label as one text. An encoder-decoder's target is the label, each token predicted
    from the one before it, its source the prompt with the end token.
    """
    if kind == "decoder":
        return table.lengths[:, None]
    return np.stack([table.label_lengths, table.prompt_lengths + 1], 1)


@dataclasses.dataclass(frozen=True, eq=False)
class Planner:
    """Packs the batches of the trials that share a compiled program.

    Attributes:
      lengths: (N, P) int32 tokens of each part of each record of the shared table.
      label_lengths: (N,) int32 label tokens of each record.
      room: (P,) tokens a row has for each part.
      shapes: the compiled batch shapes, smallest first.
    """

    lengths: np.ndarray
    label_lengths: np.ndarray
    room: tuple[int, ...]
    shapes: tuple[BatchShape, ...]

    @classmethod
    def for_trials(
        cls,
        table: RecordTable,
        trials: Sequence[TrialData],
        *,
        width: int,
        kind: Kind = "decoder",
        row_multiple: int = 1,
        length_multiple: int = 16,
    ) -> Planner:
        """Chooses batch shapes from the first epoch of every trial.

        Args:
          table: the records of all the trials.
          trials: trials with one `batch_examples`.
          width: the students' hidden width, which sets how much attention over longer rows costs.
          kind: the students'.
          row_multiple: rows must divide by this (devices that share a batch).
          length_multiple: row lengths are multiples of this.
        """
        used = np.unique(np.concatenate([trial.records for trial in trials]))
        lengths, labels = part_lengths(table, kind), table.label_lengths
        longest = -(-lengths[used].max(0) // length_multiple) * length_multiple
        examples = max(trial.batch_examples for trial in trials)
        batches = [trial.at(step) for trial in trials for step in range(trial.steps_per_epoch)]
        room = _cheapest_room([lengths[records] for records in batches], longest, width)
        needs = [(pack(lengths[records], room).rows, int(labels[records].sum())) for records in batches]
        shapes = choose_shapes(
            needs,
            room=room,
            worst_rows=examples,
            worst_labels=int(np.sort(labels[used])[-examples:].sum()),
            examples=examples,
            row_multiple=row_multiple,
        )
        return cls(lengths, labels, room, shapes)

    def batch(self, records: np.ndarray) -> tuple[StepBatch, BatchShape]:
        """Packs `records` (<= B,) and returns the batch and the smallest shape it fits."""
        packing = pack(self.lengths[records], self.room)
        batch = StepBatch.empty(self.shapes[0])
        batch.record[: len(records)] = records
        batch.row[: len(records)] = packing.row
        batch.start[: len(records)] = packing.start
        return batch, fitting_shape(self.shapes, packing.rows, int(self.label_lengths[records].sum()))


# Row lengths tried, in multiples of the longest record, and how many batches are packed to compare them.
_ROW_MULTIPLES = (1, 2, 3, 4, 6)
_TRIED_BATCHES = 200
# Attention's part of a token's cost grows with its row. It weighs as much as all the rest at about this many
# widths: 12 x width^2 multiplications a token and layer against 2 x length x width, and a softmax that is dearer.
_EQUAL_AT_WIDTHS = 5


def _cheapest_room(batches: Sequence[np.ndarray], longest: np.ndarray, width: int) -> tuple[int, ...]:
    """The row lengths whose rows, packed with sample batches' records, cost the least arithmetic."""
    sample = batches[:: -(-len(batches) // _TRIED_BATCHES)]
    candidates = [tuple(room.tolist()) for room in longest * np.array(_multiples(len(longest)))]

    def cost(room: tuple[int, ...]) -> float:
        target, *source = room
        row = target * (1 + sum(room) / (_EQUAL_AT_WIDTHS * width))  # a decoder's token reads its row, and its source
        row += sum(length * (1 + length / (_EQUAL_AT_WIDTHS * width)) for length in source)
        return row * sum(pack(lengths, room).rows for lengths in sample)

    return min(candidates, key=cost)


def _multiples(parts: int) -> list[tuple[int, ...]]:
    return list(itertools.product(_ROW_MULTIPLES, repeat=parts))
