"""The train step of a pool, compiled and timed by itself: the pool's own program, state, packing and input."""

from __future__ import annotations

import collections
import dataclasses
import time
from collections.abc import Sequence
from typing import Any, cast

import jax
import numpy as np
from jax.sharding import Mesh

from ftcot_jax.bench.compile_cost import cost_of
from ftcot_jax.bench.compile_figures import Memory
from ftcot_jax.bench.compile_hlo import Program
from ftcot_jax.bench.machine import Machine
from ftcot_jax.bench.step_bytes import StepBytes
from ftcot_jax.records.packing import BatchShape
from ftcot_jax.records.plan import Planner
from ftcot_jax.records.table import RecordTable
from ftcot_jax.students.student import Student
from ftcot_jax.training.agreement import on_all
from ftcot_jax.training.flops import StepFlops
from ftcot_jax.training.input import Fed, InputChoice, make_input, where_to_keep
from ftcot_jax.training.slots import empty_slots, refill
from ftcot_jax.training.step import Executor, Params, make_train_step, new_state
from ftcot_jax.training.trial import Trial


@dataclasses.dataclass(frozen=True, eq=False)
class StepWork:
    """What a pool trains, as it is given to the pool.

    Attributes:
      student: the architecture all trials share.
      table: the records of all trials.
      trials: for the slots in turn; batch shapes are chosen for all of them.
      mesh: devices.
      frozen: params that no trial trains, as the mesh holds them; None where all are trained.
      microbatches, share_questions, input: as of `PoolOptions`.
    """

    student: Student
    table: RecordTable
    trials: Sequence[Trial]
    mesh: Mesh
    frozen: Params | None
    microbatches: int
    share_questions: bool
    input: InputChoice


@dataclasses.dataclass(frozen=True)
class Needed:
    """What a window of steps of all slots has to do.

    Attributes:
      examples: records trained on.
      tokens: real ones that are computed; a question that several records share counts once.
      places: for tokens in the rows that are computed.
      flops: operations that the models need; None where records share tokens, which the arithmetic does not know of.
      moved: bytes of main memory, over all devices.
      least: seconds that it takes at least, by arithmetic and bytes; None without `flops`.
    """

    examples: int
    tokens: int
    places: int
    flops: float | None
    moved: float
    least: float | None


class TimedStep:
    """The step at some number of slots by one executor.

    Args:
      work: what is trained; slots beyond the trials there are take them again.
      slots: S.
      executor: how slots are computed.
      steps: of each trial that will be timed, from its first.
    """

    def __init__(self, work: StepWork, slots: int, executor: Executor, steps: int) -> None:
        self._work, self.slots, self._steps = work, slots, steps
        student, mesh = work.student, work.mesh
        self._seated = [work.trials[slot % len(work.trials)] for slot in range(slots)]
        self._head = jax.eval_shape(student.head, student.shapes).shape
        data = [trial.data for trial in work.trials]
        self._planner = Planner.for_trials(
            work.table,
            data,
            width=self._head[1],
            slots=slots,
            kind=student.kind,
            row_multiple=mesh.shape["data"] * mesh.shape["fsdp"],
            microbatches=work.microbatches,
            share_questions=work.share_questions,
        )
        self._step: Any = make_train_step(student, mesh, executor)
        trained = student.shapes if work.frozen is None else student.split(student.shapes)[1]
        self._one = jax.eval_shape(new_state, trained, work.trials[0].hyper)
        self._state = empty_slots(self._one, slots, mesh, student.sharding_rules)
        self._input = make_input(
            where_to_keep(work.input, work.table, mesh), work.table, self._planner, data, slots, mesh
        )
        self._compiled: dict[BatchShape, jax.stages.Compiled] = {}
        self._tokens: list[int] = []
        self.shapes = [self._shape(step) for step in range(steps)]

    def _shape(self, step: int) -> BatchShape:
        return self._planner.together([trial.data.at(step) for trial in self._seated])[1]

    def fill(self) -> float:
        """Puts the trials into the slots; returns seconds a trial, what is compiled for it left out."""
        seconds = []
        for slot, trial in enumerate([*self._seated, self._seated[0]]):  # the first compiles, and is done again
            began = time.perf_counter()
            self._state = refill(self._state, slot % self.slots, new_state(trial.initial(), trial.hyper))
            jax.block_until_ready(self._state)
            seconds.append(time.perf_counter() - began)
        return float(np.median(seconds[1:]))

    def compile(self) -> dict[BatchShape, float]:
        """Compiles the step for each batch shape of the window; returns the seconds each took."""
        seconds = {}
        for fed in self._window():
            if fed.shape not in self._compiled:
                table, planned = self._on_device(fed)
                began = time.perf_counter()
                lowered = self._step.lower(self._state, table, planned, fed.shape, self._work.frozen)
                self._compiled[fed.shape] = lowered.compile()
                seconds[fed.shape] = time.perf_counter() - began
        return seconds

    def warm_up(self) -> list[float]:
        """Takes one step of each shape, which must have been compiled; returns their seconds."""
        seen, seconds, tokens = set(), [], {}
        for number, fed in enumerate(self._window()):
            if fed.shape not in seen:
                seen.add(fed.shape)
                taken, tokens[number] = self._take(fed)
                seconds.append(taken)
        return seconds

    def time(self) -> list[float]:
        """Takes the window's steps one after another, each waited for; returns their seconds.

        A step's batch is planned and brought to the device before its time begins.
        """
        taken = [self._take(fed) for fed in self._window()]
        self._tokens = [tokens for _, tokens in taken]
        return [seconds for seconds, _ in taken]

    def _take(self, fed: Fed) -> tuple[float, int]:
        """One step of all slots: its seconds, and the tokens it computed."""
        table, planned = self._on_device(fed)
        began = time.perf_counter()
        self._state, metrics = self._compiled[fed.shape](self._state, table, planned, self._work.frozen)
        jax.block_until_ready((self._state, metrics))
        return time.perf_counter() - began, int(np.asarray(metrics.tokens).sum())

    def _window(self) -> collections.abc.Iterator[Fed]:
        """The input of each step, every time from the trials' first."""
        for slot, trial in enumerate(self._seated):
            self._input.seat(slot, trial.data, 0, self._steps)
        for _ in range(self._steps):
            yield self._input.next()
        for slot in range(self.slots):
            self._input.leave(slot)

    def _on_device(self, fed: Fed) -> tuple[Any, Any]:
        planned = on_all(self._work.mesh, fed.planned)
        table = fed.table if isinstance(fed.table.tokens, jax.Array) else on_all(self._work.mesh, fed.table)
        return cast(tuple[Any, Any], jax.block_until_ready((table, planned)))

    def close(self) -> None:
        """Frees what is on the devices."""
        self._input.close()
        del self._state, self._compiled

    def memory(self) -> int:
        """Bytes on a device that the step of the largest shape needs, as compiled."""
        return max(Memory.of(compiled).total for compiled in self._compiled.values())

    def needed(self, machine: Machine) -> Needed:
        """What the window needs; its tokens are counted when it is timed, and a program's bytes when it is compiled.

        Args:
          machine: limits of one device, or of a CPU with all its cores, whose virtual devices share them.
        """
        student, mesh = self._work.student, self._work.mesh
        on_cpu = mesh.devices.flat[0].platform == "cpu"
        own_bytes = self._least_bytes()
        of_program = {} if on_cpu else self._program_bytes()
        own_flops = StepFlops.of(student.shapes_by_path, self._head)
        examples = places = 0
        flops = moved = least = 0.0
        all_devices = 1 if on_cpu else mesh.size
        for step, shape in enumerate(self.shapes):
            records = [trial.data.at(step) for trial in self._seated]
            sizes = [(self._planner.sizes.lengths[one], self._planner.sizes.labels[one]) for one in records]
            arithmetic = sum(own_flops.total(*one) for one in sizes)
            bytes_ = sum(own_bytes.total(lengths) for lengths, _ in sizes) if on_cpu else of_program[shape]
            examples += sum(map(len, records))
            places += self.slots * shape.rows * (shape.length + shape.source_length)
            flops += arithmetic
            moved += bytes_
            least += machine.seconds(arithmetic / all_devices, bytes_ / all_devices)
        shared = self._work.share_questions
        return Needed(examples, sum(self._tokens), places, None if shared else flops, moved, None if shared else least)

    def _least_bytes(self) -> StepBytes:
        student = self._work.student
        frozen = None if self._work.frozen is None else student.split(student.shapes)[0]
        return StepBytes.of(
            student.shapes_by_path, self._one.params, self._one.moments, frozen, np.dtype(student.compute.activations)
        )

    def _program_bytes(self) -> dict[BatchShape, float]:
        """Of each compiled shape, over all devices."""
        axes = {axis: int(size) for axis, size in self._work.mesh.shape.items()}
        size = self._work.mesh.size
        return {
            shape: size * cost_of(Program.parse(compiled.as_text() or ""), axes).bytes
            for shape, compiled in self._compiled.items()
        }
