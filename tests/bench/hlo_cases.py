"""Tiny students and meshes whose compiled programs are looked at, and what is looked for on any platform."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from ftcot_jax.bench.compile_cost import Cost, cost_of
from ftcot_jax.bench.compile_hlo import Program
from ftcot_jax.bench.compile_programs import Setup, compile_lowered
from ftcot_jax.records.packing import BatchShape
from ftcot_jax.students.load import load_student
from ftcot_jax.students.settings import StudentSettings
from ftcot_jax.students.student import Student
from ftcot_jax.training.mesh import make_mesh
from ftcot_jax.training.optimizer import Hyper
from ftcot_jax.training.settings import MeshSettings, TrainSettings

LLAMA = {
    "model_type": "llama", "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 3,
    "num_attention_heads": 8, "num_key_value_heads": 8, "vocab_size": 512, "tie_word_embeddings": True,
}  # fmt: skip


@functools.cache
def tiny(remat: Any = "none") -> Student:
    return load_student(StudentSettings(scratch=LLAMA, remat=remat), ["a"])


def setup(devices: Sequence[Any], slots: int = 0, executor: Any = "vmap", **axes: int) -> Setup:
    """A pool of the tiny student; one slot a shard of `trial` by default."""
    mesh = make_mesh(MeshSettings(**axes), devices)
    slots = slots or mesh.shape["trial"]
    shape = BatchShape(rows=8, length=32, labels=128, examples=16)
    return Setup(tiny(), mesh, slots, executor, Hyper.of(TrainSettings(), 5), shape, 100, 3000)


def compiled(lowered: jax.stages.Lowered, setup: Setup) -> tuple[Program, Cost]:
    program = Program.parse(compile_lowered(lowered).as_text())
    return program, cost_of(program, {axis: int(size) for axis, size in setup.mesh.shape.items()})


def talk(cost: Cost) -> dict[str, int]:
    """How often each kind of collective runs in a step, by the axes over which it talks."""
    found: dict[str, int] = {}
    for one in cost.collectives:
        name = f"{one.kind} over {one.axes}"
        found[name] = found.get(name, 0) + int(one.count)
    return found


def told(cost: Cost) -> str:
    rows = sorted(cost.collectives, key=lambda one: -one.count * one.wire)
    return "; ".join(f"{one.count:.0f} {one.kind} over {one.axes}, {one.wire:.0f} B, from {one.where}" for one in rows)


def weight_bytes(setup: Setup) -> int:
    """Of one student's float32 weights."""
    return sum(4 * int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(setup.student.shapes))


def check_talk(cost: Cost, most: dict[str, int]) -> None:
    """No kind of collective but these, and none more often."""
    found = talk(cost)
    more = {name: runs for name, runs in found.items() if runs > most.get(name, 0)}
    assert not more, (
        f"{more} where {most} are known: look at where they come from ({told(cost)}); if the change is meant, or a new "
        "compiler's, raise the number in this test's table and say why in benchmarks/LOG.md"
    )


def check_students_stay_apart(cost: Cost) -> None:
    """Nothing travels over the trial axis; least of all weights, which a gather there would bring to every chip."""
    across = [one for one in cost.collectives if "trial" in one.axes]
    assert not across, (
        f"look at the constraints inside vmap (spmd_axis_name) of training/step.py, and for indices into the sharded "
        f"slot axis at training/slots.py: {told(cost)}"
    )


def check_arithmetic_and_host(program: Program) -> None:
    """Neither float64 nor a call to the host."""
    wide = [one.name for one in program if any(array.dtype in ("f64", "c128") for array in one.arrays)]
    assert not wide, f"float64 at {wide[:3]}: a numpy scalar or a missing dtype"
    calls = [one for one in program if one.opcode in ("infeed", "outfeed", "send", "recv")]
    calls += [one for one in program if one.opcode == "custom-call" and "callback" in one.rest]
    assert not calls, f"the step waits for the host at {calls[0].name}: a debug print or io_callback was left in"


def check_in_place(setup: Setup, program: Program) -> None:
    """Each donated array of the state is changed where it is."""
    leaves = jax.tree.leaves(setup._state())
    changed = {number for number, leaf in enumerate(leaves) if leaf.ndim > 1}
    lost = [(number, leaves[number].shape) for number in sorted(changed - program.aliased)]
    assert not lost, f"donated but copied: {lost[:3]}; an output's sharding or dtype differs from its input's"
