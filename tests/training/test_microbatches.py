"""A step computed in microbatches equals the undivided one, and needs less memory."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from ftcot_jax.records.batch import device_table, stack_batches
from ftcot_jax.records.plan import Planner, TrialData
from ftcot_jax.training.mesh import make_mesh
from ftcot_jax.training.optimizer import Hyper
from ftcot_jax.training.settings import MeshSettings, TrainSettings
from ftcot_jax.training.step import make_train_step, new_state
from tests.training.slot_runs import TABLE, run_slots, student_of


@pytest.mark.parametrize(
    ("family", "executor", "axes"),
    [
        ("gpt2", "map", {}),
        pytest.param("t5", "vmap", {}, marks=pytest.mark.slow),
        pytest.param("gpt2", "vmap", {"data": 2, "fsdp": 2}, marks=pytest.mark.slow),
        pytest.param("t5", "map", {"data": 2, "fsdp": 2}, marks=pytest.mark.slow),
    ],
)
def test_microbatches_equal_the_whole(family: str, executor: Any, axes: dict[str, int]) -> None:
    """The last batch of an epoch has few records, so that microbatches differ: a mean of means would not be equal."""
    student = student_of(family)
    whole, metrics = run_slots(student, [0, 1], executor="map")
    parts, other = run_slots(student, [0, 1], executor=executor, mesh=MeshSettings(**axes), microbatches=4)
    np.testing.assert_allclose(other, metrics, rtol=1e-5, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), parts.params, whole.params)
    assert metrics[2, -1, 0] < 0.5 * metrics[0, -1, 0]  # labels of the last batch


def test_memory_falls_with_the_microbatch() -> None:
    student = student_of("gpt2")
    trial = TrialData(np.arange(30), seed=0, batch_examples=30)
    like = jax.eval_shape(new_state, student.shapes, Hyper.of(TrainSettings(), 1))
    state = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype), like)
    step: Any = make_train_step(student, make_mesh(MeshSettings()), "map")
    held = {}
    for microbatches in (1, 4):
        planner = Planner.for_trials(TABLE, [trial], width=16, microbatches=microbatches)
        planned, shape = planner.batch(trial.at(0))
        compiled = step.lower(state, device_table(TABLE), stack_batches([planned]), shape).compile()
        held[microbatches] = compiled.memory_analysis().temp_size_in_bytes
    assert held[4] < 0.5 * held[1]
