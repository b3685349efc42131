"""The tables of ``ftcot bench sweep``: what slots cost and give, and what a pool takes besides its steps."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ftcot_jax.bench.figure import Figure, rounded
from ftcot_jax.bench.table import markdown
from ftcot_jax.bench.timed_step import Needed
from ftcot_jax.training.clock import Part
from ftcot_jax.training.step import Executor


@dataclasses.dataclass(frozen=True)
class SlotsFound:
    """The step at some number of slots by one executor.

    Attributes:
      needed: by the steps of a repeat; None where there was no room for them, and for nothing below.
      seconds: of each repeat.
      compile_seconds: of all batch shapes.
      fill_seconds: of putting one trial into its slot.
      memory: bytes on a device of the largest step, as compiled.
    """

    slots: int
    executor: Executor
    steps: int
    needed: Needed | None = None
    seconds: Sequence[float] = ()
    compile_seconds: float = 0.0
    fill_seconds: float = 0.0
    memory: int = 0

    @property
    def step_seconds(self) -> float:
        """Median over the repeats."""
        return float(np.median(self.seconds)) / self.steps


@dataclasses.dataclass(frozen=True)
class PoolFound:
    """What a pool takes besides its steps.

    Attributes:
      start_seconds: from the command's first line until jax had its devices.
      prepare_seconds: to make or find the records.
      alone, together: the step at the fewest and at the most slots.
      trials, trial_steps: of which the estimate tells.
      run_slots: of a short run, no more than there are trials.
      spent: seconds of that run by what they went for.
    """

    start_seconds: float
    prepare_seconds: float
    alone: SlotsFound
    together: SlotsFound
    trials: int
    trial_steps: int
    run_slots: int
    spent: Mapping[Part, float]


def slot_rows(found: Sequence[SlotsFound]) -> list[dict[str, Any]]:
    """A row a number of slots and executor; figures are None where it did not fit."""
    speeds = {
        (one.slots, one.executor): one.needed.examples / one.steps / one.step_seconds for one in found if one.needed
    }
    fewest = min(one.slots for one in found)
    rows = []
    for one in found:
        row: dict[str, Any] = {"slots": one.slots, "executor": one.executor}
        speed, base = speeds.get((one.slots, one.executor)), speeds.get((fewest, one.executor))
        least = None if one.needed is None else one.needed.least
        figures = {
            "ms a step": _if(one.needed, 1e3 * one.step_seconds if one.seconds else 0.0),
            "lowest": _if(one.needed, 1e3 * min(one.seconds, default=0.0) / one.steps),
            "highest": _if(one.needed, 1e3 * max(one.seconds, default=0.0) / one.steps),
            "students' examples/s": speed,
            "times the fewest slots'": None if speed is None or base is None else speed / base,
            "share of the roofline": None if least is None else least / (one.steps * one.step_seconds),
            "GB as compiled": _if(one.needed, one.memory / 1e9),
            "s to compile": _if(one.needed, one.compile_seconds),
        }
        rows.append(row | {name: None if value is None else rounded(value) for name, value in figures.items()})
    return rows


def _if(needed: Needed | None, value: float) -> float | None:
    return None if needed is None else value


def pool_rows(found: PoolFound) -> list[Figure]:
    """What is paid once a process, once a program and once a trial, and what that makes of many trials."""
    alone, together = found.alone, found.together
    turns = math.ceil(found.trials / together.slots)
    pool = found.start_seconds + together.compile_seconds + found.trials * together.fill_seconds
    pool += turns * found.trial_steps * together.step_seconds
    one = found.start_seconds + alone.compile_seconds + alone.fill_seconds + found.trial_steps * alone.step_seconds
    wall = sum(found.spent.values())
    many = f"{found.trials} trials of {found.trial_steps} steps"
    return [
        Figure.once("s to start: imports, devices", found.start_seconds),
        Figure.once("s to prepare the records, or find them", found.prepare_seconds),
        Figure.once(f"s to compile the step, slots: {alone.slots}", alone.compile_seconds),
        Figure.once(f"s to compile the step, slots: {together.slots}", together.compile_seconds),
        Figure.once("s to fill a slot", together.fill_seconds),
        Figure.once(f"s of a short run, slots: {found.run_slots}", wall),
        *(Figure.once(f"share of that run: {part}", seconds / wall) for part, seconds in found.spent.items()),
        Figure.once(f"estimate: s of {many}, one pool, slots: {together.slots}", pool),
        Figure.once(f"estimate: s of {many}, a process each", found.trials * one),
        Figure.once("estimate: times as fast in one pool", found.trials * one / pool),
    ]


def slots_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """For a person."""
    return markdown(rows)


def pool_table(rows: Sequence[Figure]) -> str:
    """For a person."""
    return markdown([{"of a pool": row.name, "": row.median} for row in rows])
