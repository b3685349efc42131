"""The programs of a pool, compiled from shapes alone for devices that need not be here.

They are the pool's own functions with the pool's own layouts: the train step, putting a trial into a slot, and
decoding. No weight and no record exists; nothing runs.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ftcot_jax.bench.compile_chips import GIB
from ftcot_jax.generation.decode import Rows, Weights, decode_chunk, lay_out, new_cache
from ftcot_jax.records.batch import DeviceTable
from ftcot_jax.records.packing import BatchShape
from ftcot_jax.records.plan import StepBatch
from ftcot_jax.students.student import Student
from ftcot_jax.training.mesh import params_shardings, state_shardings
from ftcot_jax.training.optimizer import Hyper
from ftcot_jax.training.slots import refill_slot, take_slot
from ftcot_jax.training.step import Executor, make_train_step, new_state

STEPS = 32  # of a decoded chunk


class DoesNotFit(Exception):
    """The compiler found no room for a program.

    Attributes:
      needed: bytes it wanted on a device, as far as it said.
      room: bytes there are.
    """

    def __init__(self, needed: float, room: float) -> None:
        super().__init__(f"{needed / GIB:.2f} GiB needed, {room / GIB:.2f} GiB there")
        self.needed, self.room = needed, room


@dataclasses.dataclass(frozen=True, eq=False)
class Setup:
    """What decides a pool's programs.

    Attributes:
      student: the architecture.
      mesh: the devices.
      slots: S.
      executor: how slots are computed.
      hyper: the hyper-parameters of any one trial: only their kinds count.
      shape: of the step's batch.
      records: how many the table has.
      tokens: in all of them.
    """

    student: Student
    mesh: Mesh
    slots: int
    executor: Executor
    hyper: Hyper
    shape: BatchShape
    records: int = 2000
    tokens: int = 400_000

    def _everywhere(self, shape: tuple[int, ...], dtype: Any = jnp.int32) -> jax.ShapeDtypeStruct:
        """A shape that every device holds whole."""
        return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(self.mesh, PartitionSpec()))

    @property
    def _parts(self) -> tuple[Any, Any]:
        """Shapes of what is frozen (None for nothing) and of what is trained."""
        if self.student.compute.lora is None:
            return None, self.student.shapes
        return self.student.split(self.student.shapes)

    def _one(self) -> Any:
        """One trial's state, on all devices as the rules say."""
        state = jax.eval_shape(new_state, self._parts[1], self.hyper)
        return _placed(state, params_shardings(self.mesh, self.student.sharding_rules, state))

    def _state(self) -> Any:
        one = jax.eval_shape(new_state, self._parts[1], self.hyper)
        state = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((self.slots, *leaf.shape), leaf.dtype), one)
        return _placed(state, state_shardings(self.mesh, self.student.sharding_rules, state))

    def _frozen(self) -> Any:
        frozen = self._parts[0]
        if frozen is None:
            return None
        return _placed(frozen, params_shardings(self.mesh, self.student.sharding_rules, frozen))

    def step(self) -> jax.stages.Lowered:
        """The train step of all slots."""
        table = DeviceTable(self._everywhere((self.tokens,)), *[self._everywhere((self.records,))] * 4)
        slots, count = self.slots, self.shape.examples
        parts = StepBatch.empty(self.shape).start.shape[-1]
        planned: Any = cast(Any, StepBatch)(
            *map(self._everywhere, ((slots, count), (slots, count), (slots, count, parts)))
        )
        step: Any = make_train_step(self.student, self.mesh, self.executor)
        return cast(jax.stages.Lowered, step.lower(self._state(), table, planned, self.shape, self._frozen()))

    def refill(self) -> jax.stages.Lowered:
        """Putting a trial into a slot."""
        return refill_slot.lower(self._state(), self._everywhere(()), self._one(), self.mesh.shape["trial"] > 1)

    def take(self) -> jax.stages.Lowered:
        """Copying a trial's weights out of a slot."""
        return take_slot.lower(self._state().params, self._everywhere(()), self.mesh.shape["trial"] > 1)

    def decode(self, rows: int, columns: int) -> jax.stages.Lowered:
        """A chunk of decoding by all slots' students, `rows` texts each of up to `columns` tokens."""
        student, slots = self.student, self.slots
        mesh = self.mesh if self.mesh.size > 1 else None
        shards = self.mesh.shape["trial"]
        local_TxK = self._everywhere((shards, slots // shards))
        weights: Weights = _result(lay_out.lower(student, self._state().params, self._frozen(), local_TxK))
        prompt_columns = columns if student.kind == "encoder_decoder" else 0
        cache = _result(new_cache.lower(student, mesh, slots, rows, columns, prompt_columns), self.mesh)
        writing = cast(Any, Rows)(*(self._everywhere((slots, rows), kind) for kind in (*[jnp.int32] * 3, jnp.uint32)))
        scalar = self._everywhere(())
        return decode_chunk.lower(student, mesh, weights, cache, writing, scalar, scalar, None, STEPS)


def _placed(shapes: Any, shardings: Any) -> Any:
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes, shardings
    )


def _result(lowered: jax.stages.Lowered, alone: Mesh | None = None) -> Any:
    """What a program would return: shapes, and places as the compiler chose them."""
    if alone is not None and alone.size == 1:
        one = NamedSharding(alone, PartitionSpec())
        return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=one), lowered.out_info)
    return _placed(lowered.out_info, compile_lowered(lowered).output_shardings)


def compile_lowered(lowered: jax.stages.Lowered) -> jax.stages.Compiled:
    """Compiles.

    Raises:
      DoesNotFit: the devices have too little memory.
    """
    try:
        return lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        sizes = [float(number) * _UNITS[unit] for number, unit in re.findall(r"(\d+(?:\.\d+)?)([KMGT])\b", str(error))]
        if len(sizes) < 2:
            raise
        raise DoesNotFit(sizes[0], sizes[1]) from error


_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
