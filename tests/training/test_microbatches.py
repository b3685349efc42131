"""A step computed in microbatches equals the undivided one, and needs less memory."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from ftcot_jax.records.batch import device_table, stack_batches
from ftcot_jax.records.plan import Planner, TrialData
from ftcot_jax.students.load import load_student
from ftcot_jax.students.settings import StudentSettings
from ftcot_jax.students.student import Student
from ftcot_jax.training.mesh import make_mesh
from ftcot_jax.training.optimizer import Hyper
from ftcot_jax.training.settings import MeshSettings, TrainSettings
from ftcot_jax.training.slots import empty_slots, refill
from ftcot_jax.training.step import make_train_step, new_state
from tests.training.tiny import make_records

TABLE = make_records(30)
FAMILIES: dict[str, dict[str, Any]] = {
    "gpt2": {"model_type": "gpt2", "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64, "resid_pdrop": 0.2},
    "t5": {"model_type": "t5", "d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2},
}


@pytest.fixture(scope="module")
def students() -> dict[str, Student]:
    words = [f"word{number}" for number in range(60)]
    return {name: load_student(StudentSettings(scratch=fields), words) for name, fields in FAMILIES.items()}


def run(
    student: Student, microbatches: int, executor: Any = "map", mesh: MeshSettings | None = None, steps: int = 3
) -> tuple[Any, np.ndarray]:
    """Trains two slots; returns the parameters and the metrics (steps, fields, slots)."""
    layout = make_mesh(mesh or MeshSettings())
    share = layout.shape["data"] * layout.shape["fsdp"]
    trials = [TrialData(np.arange(number, 30), seed=number, batch_examples=14) for number in range(2)]
    planner = Planner.for_trials(
        TABLE, trials, width=16, kind=student.kind, row_multiple=share, microbatches=microbatches
    )
    # Adam would divide the rounding of a gradient that is zero, as of the keys' bias, by its own size.
    hyper = Hyper.of(TrainSettings(learning_rate=1e-2, epsilon=1e-5, seed=5), steps)
    states = [new_state(student.init(jax.random.key(seed)), hyper) for seed in range(2)]
    state = empty_slots(states[0], 2, layout, student.sharding_rules)
    for slot, one in enumerate(states):
        state = refill(state, slot, one)
    step, table, metrics = make_train_step(student, layout, executor), device_table(TABLE), []
    for number in range(steps):
        planned = [planner.batch(data.at(number))[0] for data in trials]
        state, row = step(state, table, stack_batches(planned), planner.shapes[-1])
        metrics.append(np.stack(row))
    return jax.device_get(state.params), np.array(metrics)


@pytest.mark.parametrize(
    ("family", "executor", "axes"),
    [
        ("gpt2", "map", {}),
        ("t5", "vmap", {}),
        ("gpt2", "vmap", {"data": 2, "fsdp": 2}),
        pytest.param("t5", "map", {"data": 2, "fsdp": 2}, marks=pytest.mark.slow),
    ],
)
def test_microbatches_equal_the_whole(
    students: dict[str, Student], family: str, executor: Any, axes: dict[str, int]
) -> None:
    """The last batch of an epoch has two records, so that most microbatches have none: a mean of means would differ."""
    student = students[family]
    whole, metrics = run(student, 1)
    parts, other = run(student, 4, executor, MeshSettings(**axes))
    np.testing.assert_allclose(other, metrics, rtol=1e-5, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), parts, whole)
    assert metrics[2, -1, 0] < 0.5 * metrics[0, -1, 0]  # labels of the last batch


def test_memory_falls_with_the_microbatch(students: dict[str, Student]) -> None:
    student = students["gpt2"]
    trial = TrialData(np.arange(30), seed=0, batch_examples=30)
    hyper = Hyper.of(TrainSettings(), 1)
    like = jax.eval_shape(new_state, student.shapes, hyper)
    state = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype), like)
    step: Any = make_train_step(student, make_mesh(MeshSettings()), "map")
    held = {}
    for microbatches in (1, 4):
        planner = Planner.for_trials(TABLE, [trial], width=16, microbatches=microbatches)
        planned, shape = planner.batch(trial.at(0))
        compiled = step.lower(state, device_table(TABLE), stack_batches([planned]), shape).compile()
        held[microbatches] = compiled.memory_analysis().temp_size_in_bytes
    assert held[4] < 0.5 * held[1]
