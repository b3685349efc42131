"""The plan: which records a trial trains on at a step. A pure function; resuming needs only the step.

The order of an epoch comes from raw Philox bits, whose stream numpy guarantees never to change, so a run
resumed under another numpy, on another machine or on another number of hosts sees the same batches.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ftcot_jax.records.packing import BatchShape, Packing, deal_rows, pack
from ftcot_jax.records.shapes import choose_shapes, spread, worst_shape
from ftcot_jax.records.sizes import Kind, Sizes
from ftcot_jax.records.table import RecordTable

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


@dataclasses.dataclass(frozen=True, eq=False)
class Planner:
    """Packs the batches of the trials that share a compiled program.

    Attributes:
      sizes: of the records of the shared table.
      shapes: the compiled batch shapes, cheapest first; every batch fits the last.
    """

    sizes: Sizes
    shapes: tuple[BatchShape, ...]

    @classmethod
    def for_trials(
        cls,
        table: RecordTable,
        trials: Sequence[TrialData],
        *,
        width: int,
        slots: int = 1,
        kind: Kind = "decoder",
        row_multiple: int = 1,
        length_multiple: int = 16,
        microbatches: int = 1,
        share_questions: bool = False,
    ) -> Planner:
        """Chooses batch shapes from the first epoch of every trial, or a sample of its steps if they are many.

        Args:
          table: the records of all the trials.
          trials: trials with one `batch_examples`, in the order in which they are taken.
          width: the students' hidden width, which sets how much attention over longer rows costs.
          slots: trials trained at a time, whose batches share a shape.
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
        budgets = {trial.budget.room: trial.budget.rows for trial in trials if trial.budget is not None}
        if len(budgets) > 1:
            raise ValueError(f"trials of one program have one row length, not {sorted(budgets)}")
        row_multiple *= microbatches
        worst = worst_shape(
            np.sort(sizes.labels[used])[-examples:],
            room=next(iter(budgets)) if budgets else tuple(longest.tolist()),
            rows=-(-max(budgets.values(), default=examples) // row_multiple) * row_multiple,
            examples=examples,
            microbatches=microbatches,
            shared=share_questions,
        )
        shapes = choose_shapes(
            sizes,
            _sampled_steps(trials, slots, examples),
            worst,
            width=width,
            row_multiple=row_multiple,
            length_multiple=length_multiple,
            one_length=bool(budgets),
        )
        return cls(sizes, shapes)

    def efficiency(self, trial: TrialData) -> Efficiency:
        """How well a trial's first epoch is packed, alone, or a sample of its batches if it is long."""
        held = places = given = 0
        for step in spread(trial.steps_in(0), _PLANNED_STEPS):
            records = trial.at(step)
            packing, shape = next(self._fitting(records))
            held += packing.tokens
            given += int(self.sizes.lengths[records].sum())
            places += shape.rows * (shape.length + shape.source_length)
        return Efficiency(filled=held / places, shared=1 - held / given)

    def batch(self, records: np.ndarray) -> tuple[StepBatch, BatchShape]:
        """Packs `records` (<= B,) and returns the batch and the cheapest shape it fits."""
        (batch,), shape = self.together([records])
        return batch, shape

    def together(self, records_S: Sequence[np.ndarray]) -> tuple[list[StepBatch], BatchShape]:
        """Packs the records of S slots, each (<= B,), for the cheapest shape that all of them fit."""
        packed_S: list[_Packed] = [{} for _ in records_S]
        for shape in self.shapes:
            batches = []
            for records, packed in zip(records_S, packed_S, strict=True):
                packing = self._fit(records, shape, packed)
                if packing is None:
                    break
                batches.append(_batch(records, packing, shape))
            else:
                return batches, shape
        raise AssertionError("the last shape holds every batch")

    def batches(self, records: np.ndarray) -> dict[BatchShape, StepBatch]:
        """Packs `records` (<= B,) for every shape that they fit, cheapest first; they fit the last."""
        return {shape: _batch(records, packing, shape) for packing, shape in self._fitting(records)}

    def common(self, batches_S: Sequence[Container[BatchShape]]) -> BatchShape:
        """The cheapest shape that the batches of S slots all fit, each slot's from `batches`."""
        return next(shape for shape in self.shapes if all(shape in batches for batches in batches_S))

    def _fitting(self, records: np.ndarray) -> Iterator[tuple[Packing, BatchShape]]:
        """The shapes that these records fit, cheapest first, and how they are packed in it."""
        packed: _Packed = {}
        for shape in self.shapes:
            if (packing := self._fit(records, shape, packed)) is not None:
                yield packing, shape

    def _fit(self, records: np.ndarray, shape: BatchShape, packed: _Packed) -> Packing | None:
        """How these records are packed in a shape, if they fit; `packed` is what is known of them."""
        if shape.room not in packed:
            if not shape.shared and (self.sizes.lengths[records].sum(0) > shape.rows * np.array(shape.room)).any():
                return None  # as rows full to the last place would show
            packing = self.sizes.pack(records, shape.room)
            packed[shape.room] = deal_rows(packing, self.sizes.labels[records], shape.microbatches)
        packing, labels = packed[shape.room]
        return packing if packing.rows <= shape.rows and labels <= shape.labels else None


_Packed = dict[tuple[int, ...], tuple[Packing, int]]  # by row lengths, with the room for labels


def _batch(records: np.ndarray, packing: Packing, shape: BatchShape) -> StepBatch:
    batch = StepBatch.empty(shape)
    batch.record[: len(records)] = records
    batch.row[: len(records)] = packing.row
    batch.start[: len(records)] = packing.start
    return batch


class Efficiency(NamedTuple):
    """Of packing.

    Attributes:
      filled: share of the compiled rows' places that hold a token.
      shared: share of the records' tokens that are not computed because another record has them: of questions.
    """

    filled: float
    shared: float


# Steps packed beforehand to choose shapes, and afterwards to say how full they were, a whole epoch of a usual set;
# fewer steps, groups of trials and slots where these have so many records.
_PLANNED_STEPS, _PLANNED_RECORDS = 1000, 64_000
_FEWEST_STEPS, _FEWEST_SLOTS = 16, 2


def _sampled_steps(trials: Sequence[TrialData], slots: int, examples: int) -> list[list[np.ndarray]]:
    """Steps of the first epoch; of each the records of its slots, for trials that are trained side by side."""
    batches = _PLANNED_RECORDS // examples
    few = min(slots, len(trials), max(_FEWEST_SLOTS, batches // _FEWEST_STEPS))
    most = min(_PLANNED_STEPS, max(_FEWEST_STEPS, batches // few))
    groups = spread(-(-len(trials) // slots), most)
    steps = []
    for group in groups:
        trial_S = trials[group * slots : (group + 1) * slots][:few]
        longest = max(trial.steps_in(0) for trial in trial_S)
        for step in spread(longest, -(-most // len(groups))):
            steps.append([trial.at(step % trial.steps_in(0)) for trial in trial_S])
    return steps
