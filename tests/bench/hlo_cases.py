"""Tiny students and meshes whose compiled programs are looked at."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax

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


def kinds(cost: Cost) -> dict[str, set[str]]:
    """Axes over which each kind of collective talks."""
    found: dict[str, set[str]] = {}
    for one in cost.collectives:
        found.setdefault(one.kind, set()).add(one.axes)
    return found
