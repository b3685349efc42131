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

from ftcot_jax.records.packing import (
    BatchShape,
    Packing,
    choose_shapes,
    deal_rows,
    fitting_shape,
    pack,
    pack_questions,
    rows_computed,
)
from ftcot_jax.records.table import RecordTable

Kind = Literal["decoder", "encoder_decoder"]
_FULL = 0.985  # about what first-fit decreasing reaches with many records a row


@dataclasses.dataclass(frozen=True, eq=False)
class TokenBudget:
    """Batches by room: as many records of the epoch's order as fit the rows, packed.

    Attributes:
      lengths: (N, P) int32 tokens of each part of each of the trial's records, none above its room.
      rows: rows of a batch.
      room: (P,) tokens a row has for each part.
    """

    lengths: np.ndarray
    rows: int
    room: tuple[int, ...]

    @classmethod
    def of(cls, lengths: np.ndarray, tokens: int, row_length: int) -> tuple[TokenBudget, int]:
        """A budget of `tokens`, all parts together, in rows of `row_length`; and the most records a step may hold.

        Of an encoder-decoder, the part that is longer on average has rows of `row_length`, the other's are shorter in
        proportion, in steps of 1/32, so that both fill up together.

        Raises:
          ValueError: a record does not fit a row, or not even one row fits the budget.
        """
        if lengths.max() > row_length:
            raise ValueError(f"a record of {lengths.max()} tokens does not fit a row of {row_length}")
        mean = lengths.mean(0)
        wanted = np.round(32 * mean / mean.max()) / 32 * row_length
        longest = -(-lengths.max(0) // 16) * 16
        room = np.minimum(row_length, np.maximum(wanted, longest)).astype(int)
        if tokens < room.sum():
            raise ValueError(f"a batch of {tokens} tokens has no room for a row of {room.sum()}")
        rows = tokens // int(room.sum())
        usual = rows * row_length / mean.max()
        return cls(lengths, rows, tuple(room.tolist())), int(1.5 * usual) + 8

    def cut(self, order: np.ndarray, most: int) -> np.ndarray:
        """(steps + 1,) places in `order` at which one batch ends and the next begins."""
        lengths = self.lengths[order]
        total = np.concatenate([np.zeros((1, lengths.shape[1]), np.int64), np.cumsum(lengths, 0, np.int64)])
        space = self.rows * np.array(self.room)
        bounds = [0]
        while bounds[-1] < len(order):
            begin = bounds[-1]
            reach = total[begin] + _FULL * space
            full = min(int(np.searchsorted(total[:, part], reach[part])) for part in range(len(space)))
            end = min(len(order), begin + most, max(begin + 1, full - 1))
            while end > begin + 1 and pack(lengths[begin:end], self.room).rows > self.rows:
                end -= max(1, (end - begin) // 100)
            while end < min(len(order), begin + most) and pack(lengths[begin : end + 1], self.room).rows <= self.rows:
                end += 1
            bounds.append(end)
        return np.array(bounds)


@dataclasses.dataclass(frozen=True, eq=False)
class TrialData:
    """What one trial trains on.

    Attributes:
      records: (N,) int, record numbers in the table, in the order of the selection.
      seed: decides the order of every epoch.
      batch_examples: records a step; the last step of an epoch may hold fewer, as in the reference. With a
        budget, the most a step may hold.
      budget: room a step's records must fit into; None for exactly `batch_examples` of them.
    """

    records: np.ndarray
    seed: int
    batch_examples: int
    budget: TokenBudget | None = None
    _known_bounds: dict[int, np.ndarray] = dataclasses.field(default_factory=dict, init=False, repr=False)
    _known_order: dict[int, np.ndarray] = dataclasses.field(default_factory=dict, init=False, repr=False)

    def at(self, step: int) -> np.ndarray:
        """(<= batch_examples,) record numbers of optimizer step `step`, counted from 0."""
        epoch = 0
        if self.budget is None:
            epoch, step = divmod(step, self.steps_in(0))
        else:
            while step >= self.steps_in(epoch):
                step -= self.steps_in(epoch)
                epoch += 1
        bounds = self._bounds(epoch)
        return self.records[self._order(epoch)[bounds[step] : bounds[step + 1]]]

    def steps_in(self, epoch: int) -> int:
        """Optimizer steps of an epoch, counted from 0; with a budget, epochs differ a little."""
        return len(self._bounds(epoch)) - 1

    def first_step(self, epoch: int) -> int:
        """The step an epoch begins with, which is how many all before it take."""
        return epoch * self.steps_in(0) if self.budget is None else sum(map(self.steps_in, range(epoch)))

    def epochs_at(self, step: int) -> float:
        """How many passes over the records `step` steps are."""
        epoch = 0
        while step >= self.steps_in(epoch):
            step -= self.steps_in(epoch)
            epoch += 1
        return epoch + step / self.steps_in(epoch)

    def _bounds(self, epoch: int) -> np.ndarray:
        """(steps + 1,) places in the epoch's order where steps begin and end."""
        key = 0 if self.budget is None else epoch
        if key not in self._known_bounds:
            count = len(self.records)
            if self.budget is None:
                bounds = np.append(np.arange(0, count, self.batch_examples), count)
            else:
                bounds = self.budget.cut(self._order(epoch), self.batch_examples)
            self._known_bounds[key] = bounds
        return self._known_bounds[key]

    def _order(self, epoch: int) -> np.ndarray:
        """(N,) places of the epoch's records in the selection's order; that of one epoch is kept."""
        order = self._known_order.get(epoch)
        if order is None:
            bits = np.random.Philox(key=np.array([self.seed, epoch], np.uint64)).random_raw(len(self.records))
            order = np.argsort(bits, kind="stable")
            self._known_order.clear()
            self._known_order[epoch] = order
        return order

    def moved(self, offset: int) -> TrialData:
        """The same plan over a table in which its records come `offset` later."""
        moved = dataclasses.replace(self, records=self.records + offset)
        moved._known_bounds.update(self._known_bounds)
        return moved


class StepBatch(NamedTuple):
    """One slot's batch at one step, as the few integers the device needs to build it; or S slots', stacked.

    Attributes:
      record: (B,) int32 numbers in the record table, -1 where the batch holds fewer.
      row: (B,) int32 row each record lies in.
      start: (B, P) int32 first position of each of its parts in that row; see `pack`, and `pack_questions` where
        questions are shared.
    """

    record: np.ndarray
    row: np.ndarray
    start: np.ndarray

    @classmethod
    def empty(cls, shape: BatchShape) -> StepBatch:
        """A batch of no records, for a slot that has no trial."""
        parts = 2 if shape.source_length or shape.shared else 1
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


@dataclasses.dataclass(frozen=True, eq=False)
class Planner:
    """Packs the batches of the trials that share a compiled program.

    Attributes:
      sizes: of the records of the shared table.
      room: (P,) tokens a row has for each part.
      shapes: the compiled batch shapes, smallest first.
      microbatches: parts a batch is computed in.
    """

    sizes: Sizes
    room: tuple[int, ...]
    shapes: tuple[BatchShape, ...]
    microbatches: int = 1

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
        microbatches: int = 1,
        share_questions: bool = False,
    ) -> Planner:
        """Chooses batch shapes from the first epoch of every trial, or a sample of its batches if it is long.

        Args:
          table: the records of all the trials.
          trials: trials with one `batch_examples`.
          width: the students' hidden width, which sets how much attention over longer rows costs.
          kind: the students'.
          row_multiple: rows computed at a time must divide by this (devices that share a batch).
          length_multiple: row lengths are multiples of this.
          microbatches: parts a batch is computed in, one after another.
          share_questions: whether records of one batch that have one question share its tokens.
        """
        used = np.unique(np.concatenate([trial.records for trial in trials]))
        sizes = Sizes.of(table, kind, share_questions)
        longest = -(-sizes.lengths[used].max(0) // length_multiple) * length_multiple
        examples = max(trial.batch_examples for trial in trials)
        batches = [trial.at(step) for trial in trials for step in _spread(trial.steps_in(0), _PLANNED_BATCHES)]
        budgets = {trial.budget.room: trial.budget.rows for trial in trials if trial.budget is not None}
        if len(budgets) > 1:
            raise ValueError(f"trials of one program have one row length, not {sorted(budgets)}")
        worst_rows = max(budgets.values(), default=examples)
        room = next(iter(budgets), None) or _cheapest_room(
            sizes, batches, longest, width, row_multiple * microbatches, length_multiple
        )
        dealt = [deal_rows(sizes.pack(records, room), sizes.labels[records], microbatches) for records in batches]
        needs = [(packing.rows, most) for packing, most in dealt]
        shapes = choose_shapes(
            needs,
            room=room,
            worst_rows=worst_rows,
            worst_labels=min(int(np.sort(sizes.labels[used])[-examples:].sum()), room[0] * worst_rows),
            examples=examples,
            row_multiple=row_multiple,
            microbatches=microbatches,
            shared=share_questions,
        )
        return cls(sizes, room, shapes, microbatches)

    def efficiency(self, trial: TrialData) -> Efficiency:
        """How well a trial's first epoch is packed, or a sample of its batches if it is long."""
        held = places = given = 0
        for step in _spread(trial.steps_in(0), _PLANNED_BATCHES):
            records = trial.at(step)
            packing, shape = self._pack(records)
            held += packing.tokens
            given += int(self.sizes.lengths[records].sum())
            places += shape.rows * (shape.length + shape.source_length)
        return Efficiency(filled=held / places, shared=1 - held / given)

    def batch(self, records: np.ndarray) -> tuple[StepBatch, BatchShape]:
        """Packs `records` (<= B,) and returns the batch and the smallest shape it fits."""
        packing, shape = self._pack(records)
        batch = StepBatch.empty(self.shapes[0])
        batch.record[: len(records)] = records
        batch.row[: len(records)] = packing.row
        batch.start[: len(records)] = packing.start
        return batch, shape

    def _pack(self, records: np.ndarray) -> tuple[Packing, BatchShape]:
        packing = self.sizes.pack(records, self.room)
        packing, most = deal_rows(packing, self.sizes.labels[records], self.microbatches)
        return packing, fitting_shape(self.shapes, packing.rows, most)


class Efficiency(NamedTuple):
    """Of packing.

    Attributes:
      filled: share of the compiled rows' places that hold a token.
      shared: share of the records' tokens that are not computed because another record has them: of questions.
    """

    filled: float
    shared: float


# Batches packed beforehand to choose shapes, and afterwards to say how full they were; a whole epoch of a usual set.
_PLANNED_BATCHES = 1000
# Row lengths tried first, in multiples of the longest record; then, around the best of them, ever finer parts of it.
_ROW_MULTIPLES = (1, 2, 3, 4, 6)
_FINER = (2, 4, 8)
# How many batches are packed to compare row lengths.
_TRIED_BATCHES = 200
# Attention's part of a token's cost grows with its row. It weighs as much as all the rest at about this many
# widths: 12 x width^2 multiplications a token and layer against 2 x length x width, and a softmax that is dearer.
_EQUAL_AT_WIDTHS = 5


def _spread(count: int, at_most: int) -> range:
    """At most so many of the numbers below `count`, evenly apart."""
    return range(0, count, -(-count // at_most))


def _cheapest_room(
    sizes: Sizes,
    batches: Sequence[np.ndarray],
    longest: np.ndarray,
    width: int,
    row_multiple: int,
    length_multiple: int,
) -> tuple[int, ...]:
    """The row lengths whose rows, packed with sample batches' records, cost the least arithmetic.

    A batch has a multiple of `row_multiple` rows, as many as the compiled shape that it needs. Row lengths are
    multiples of `length_multiple`.
    """
    sample = [batches[number] for number in _spread(len(batches), _TRIED_BATCHES)]

    @functools.cache
    def cost(room: tuple[int, ...]) -> float:
        target, *source = room
        row = target * (1 + sum(room) / (_EQUAL_AT_WIDTHS * width))  # a decoder's token reads its row, and its source
        row += sum(length * (1 + length / (_EQUAL_AT_WIDTHS * width)) for length in source)
        return row * rows_computed([-(-sizes.pack(records, room).rows // row_multiple) for records in sample])

    rooms = longest * np.array(list(itertools.product(_ROW_MULTIPLES, repeat=len(longest))))
    best = min((tuple(room.tolist()) for room in rooms), key=cost)
    for part in _FINER:
        step = -(-longest // part // length_multiple) * length_multiple
        moves = np.array(list(itertools.product((0, -1, 1), repeat=len(longest)))) * step
        while (near := min((_at_least(longest, best + move) for move in moves), key=cost)) != best:
            best = near
    return best


def _at_least(longest: np.ndarray, room: np.ndarray) -> tuple[int, ...]:
    return tuple(np.maximum(longest, room).tolist())
