"""The train step with splash attention compiles for a TPU that is not here."""

from __future__ import annotations

from typing import Any

import jax
import pytest
from jax.sharding import SingleDeviceSharding

from ftcot_jax.bench.compile_chips import find_topology
from ftcot_jax.records.batch import DeviceTable
from ftcot_jax.records.packing import BatchShape
from ftcot_jax.records.plan import StepBatch
from ftcot_jax.students.load import load_student
from ftcot_jax.students.settings import StudentSettings
from ftcot_jax.training.mesh import make_mesh
from ftcot_jax.training.optimizer import Hyper
from ftcot_jax.training.settings import MeshSettings, TrainSettings
from ftcot_jax.training.step import make_train_step, new_state

FIELDS = {"model_type": "llama", "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_two_slots_of_a_llama_compile_for_a_tpu(dtype: Any) -> None:
    pytest.importorskip("libtpu", reason="the tpu extra brings the compiler")
    chips = find_topology("v5e:2x2").devices
    scratch = FIELDS | {"num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 512}
    student = load_student(StudentSettings(scratch=scratch, attention="splash", dtype=dtype), ["a"])
    one, slots = SingleDeviceSharding(chips[0]), 2

    def like(shape: tuple[int, ...], kind: Any = "int32") -> Any:
        return jax.ShapeDtypeStruct(shape, kind, sharding=one)

    state = jax.eval_shape(new_state, student.shapes, Hyper.of(TrainSettings(), 5))
    state = jax.tree.map(lambda leaf: like((slots, *leaf.shape), leaf.dtype), state)
    table = DeviceTable(like((1000,)), *[like((20,))] * 4)
    planned = StepBatch(like((slots, 8)), like((slots, 8)), like((slots, 8, 1)))
    step: Any = make_train_step(student, make_mesh(MeshSettings(), devices=chips[:1]), "vmap")
    compiled = step.lower(state, table, planned, BatchShape(4, 160, 256, 8)).compile()
    assert compiled.as_text().count("tpu_custom_call") >= 3  # forward, and backward in two parts
