"""Where a step's records come from: a table of all of them on the device, or each step's streamed to it.

Records that fit stay on the device, and the host sends four integers a record. Others are read, packed and laid into
a small table of fixed size, a few steps ahead of the one that trains on it. Either way a batch is a function of the
trial and the step alone, so a resumed trial begins at its step, and both give the same batch, bit for bit.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, Protocol

import jax
import numpy as np
from jax.sharding import Mesh

from ftcot_jax.errors import UsageError
from ftcot_jax.records.batch import DeviceTable, host_table, stack_batches
from ftcot_jax.records.packing import BatchShape
from ftcot_jax.records.plan import Planner, StepBatch, TrialData
from ftcot_jax.records.table import RecordTable
from ftcot_jax.training.agreement import on_all

Where = Literal["device", "stream"]
InputChoice = Literal["auto", "device", "stream"]

_STEPS_AHEAD = 8
_SHARE_OF_MEMORY = 0.1  # that records may take; weights, moments and activations need the rest
_MOST_TOKENS = 2**31  # what the device's int32 offsets reach


class Fed(NamedTuple):
    """What one step of all slots is computed from.

    Attributes:
      table: the records, or those of this step.
      planned: the S slots' batches, as numbers in the table.
      shape: the cheapest compiled shape that all of them fit.
      examples: records of each slot.
    """

    table: DeviceTable
    planned: StepBatch
    shape: BatchShape
    examples: list[int]


class Input(Protocol):
    """Feeds the slots of a pool."""

    def seat(self, slot: int, data: TrialData, first: int, end: int) -> None:
        """From now on the slot takes the steps of this trial from `first` up to `end`."""

    def leave(self, slot: int) -> None:
        """From now on the slot takes none."""

    def next(self) -> Fed:
        """The next step of every slot that is seated; of at least one."""

    def close(self) -> None:
        """Ends what runs ahead."""


def where_to_keep(choice: InputChoice, table: RecordTable, mesh: Mesh) -> Where:
    """Where records are to be kept: on the device if that is asked for, or if they take little of its free memory.

    Raises:
      UsageError: "device", and the table has more tokens than the device can number.
    """
    fits = len(table.tokens) < _MOST_TOKENS
    if choice == "device" and not fits:
        raise UsageError(
            f"train.input: a device numbers tokens up to {_MOST_TOKENS}, and there are {len(table.tokens)}; set stream"
        )
    small = fits and table.device_bytes <= _SHARE_OF_MEMORY * _free_bytes(mesh.local_devices[0])
    return "device" if choice == "device" or (choice == "auto" and small) else "stream"


def make_input(
    where: Where, table: RecordTable, planner: Planner, trials: Sequence[TrialData], slots: int, mesh: Mesh
) -> Input:
    """Returns what feeds records.

    Args:
      where: they are kept; the same in every process.
      table: the records of all trials.
      planner: packs the batches.
      trials: all that may be seated.
      slots: of the pool.
      mesh: its devices.
    """
    if where == "device":
        return Resident(table, planner, slots, mesh)
    return Streamed(table, planner, trials, slots)


def _free_bytes(device: jax.Device) -> int:
    stats = device.memory_stats()
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"]) - int(stats.get("bytes_in_use", 0))
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


class Resident:
    """Records on every device of the mesh, gathered there; batches are planned as the loop asks for them."""

    def __init__(self, table: RecordTable, planner: Planner, slots: int, mesh: Mesh) -> None:
        self._table = on_all(mesh, host_table(table))
        self._planner = planner
        self._seats: list[Iterator[np.ndarray] | None] = [None] * slots

    def seat(self, slot: int, data: TrialData, first: int, end: int) -> None:
        self._seats[slot] = map(data.at, range(first, end))

    def leave(self, slot: int) -> None:
        self._seats[slot] = None

    def next(self) -> Fed:
        none = np.zeros(0, int)
        records_S = [none if seat is None else next(seat) for seat in self._seats]
        batches_S, shape = self._planner.together(records_S)
        return Fed(self._table, stack_batches(batches_S), shape, list(map(len, records_S)))

    def close(self) -> None:
        pass


class _Loaded(NamedTuple):
    """One slot's part of a step: its share of the step's table, and its batch, in every shape that it fits, as numbers
    in that table."""

    table: DeviceTable
    batches: dict[BatchShape, StepBatch]
    examples: int


class Streamed:
    """Records on the host, or in a file mapped there; threads load the next steps of every seat ahead of time."""

    def __init__(self, table: RecordTable, planner: Planner, trials: Sequence[TrialData], slots: int) -> None:
        self._table, self._planner = table, planner
        self._records = planner.shapes[-1].examples
        self._tokens = _most_tokens(table, planner.shapes[-1], trials)
        self._seats: list[Any] = [None] * slots
        self._empty = [self._load(np.zeros(0, int), slot) for slot in range(slots)]

    def seat(self, slot: int, data: TrialData, first: int, end: int) -> None:
        import grain  # slow to import, and most runs keep their records on the device

        steps = grain.MapDataset.range(first, end).map(lambda step: self._load(data.at(int(step)), slot))
        ahead = grain.ReadOptions(num_threads=1, prefetch_buffer_size=_STEPS_AHEAD)
        self._seats[slot] = iter(steps.to_iter_dataset(ahead))
        self._seats[slot].start_prefetch()

    def leave(self, slot: int) -> None:
        self._seats[slot].close()
        self._seats[slot] = None

    def next(self) -> Fed:
        loaded = [self._empty[slot] if seat is None else next(seat) for slot, seat in enumerate(self._seats)]
        tables = [part.table for part in loaded]
        shape = self._planner.common([part.batches for part in loaded])
        return Fed(
            DeviceTable(*(np.concatenate(parts) for parts in zip(*tables, strict=True))),
            stack_batches([part.batches[shape] for part in loaded]),
            shape,
            [part.examples for part in loaded],
        )

    def close(self) -> None:
        for slot, seat in enumerate(self._seats):
            if seat is not None:
                self.leave(slot)

    def _load(self, records: np.ndarray, slot: int) -> _Loaded:
        """Reads and packs records into the part of the step's table that belongs to this slot."""
        batches = self._planner.batches(records)
        chosen = self._table.only(records)
        count, first = len(records), slot * self._records
        room = self._records - count
        host = host_table(chosen)
        tokens = np.zeros(self._tokens, np.int32)
        tokens[: len(host.tokens)] = host.tokens
        rest = (np.pad(values, (0, room)) for values in host._replace(offset=host.offset + slot * self._tokens)[1:])
        at_B = np.arange(self._records, dtype=np.int32)
        numbers = np.where(at_B < count, first + at_B, -1)
        batches = {shape: batch._replace(record=numbers) for shape, batch in batches.items()}
        return _Loaded(DeviceTable(tokens, *rest), batches, count)


def _most_tokens(table: RecordTable, largest: BatchShape, trials: Sequence[TrialData]) -> int:
    """Tokens that the records of one batch have at most."""
    most = 0
    for trial in trials:
        lengths = table.lengths[trial.records]
        count = min(largest.examples, len(lengths))
        most = max(most, int(np.partition(lengths, len(lengths) - count)[len(lengths) - count :].sum()))
    return min(most, largest.rows * (largest.length + largest.source_length))
