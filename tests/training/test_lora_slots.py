"""Slots of adapters share one frozen base: as trials run alone, and with no copy of the base for each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ftcot_jax.records.batch import device_table, stack_batches
from ftcot_jax.records.plan import Planner, TrialData
from ftcot_jax.students.load import load_student
from ftcot_jax.students.settings import LoraSettings, StudentSettings
from ftcot_jax.students.student import Student
from ftcot_jax.training.mesh import make_mesh
from ftcot_jax.training.optimizer import Hyper
from ftcot_jax.training.settings import MeshSettings, TrainSettings
from ftcot_jax.training.slots import empty_slots, refill, take
from ftcot_jax.training.step import make_train_step, new_state
from tests.students.cases import write_case
from tests.training.tiny import make_records

TABLE = make_records(12)


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Student:
    folder: Path = tmp_path_factory.mktemp("base")
    write_case("llama", folder)
    return load_student(StudentSettings(checkpoint=str(folder), lora=LoraSettings(rank=2)))


def run(student: Student, seeds: list[int], steps: int) -> tuple[Any, np.ndarray, Any]:
    """Trains a slot a seed; returns the state, the losses, and the shared base after it."""
    trials = [TrialData(np.arange(12), seed, 4) for seed in seeds]
    planner = Planner.for_trials(TABLE, trials, width=48)
    mesh, hyper = make_mesh(MeshSettings()), Hyper.of(TrainSettings(learning_rate=3e-2), steps)
    frozen = student.split(student.load())[0]
    states = [new_state(student.init_adapters(jax.random.key(seed)), hyper) for seed in seeds]
    state = empty_slots(states[0], len(seeds), mesh, student.sharding_rules)
    for slot, one in enumerate(states):
        state = refill(state, slot, one)
    step, table, losses = make_train_step(student, mesh, "vmap"), device_table(TABLE), []
    for number in range(steps):
        planned = [planner.batches(data.at(number))[planner.shapes[-1]] for data in trials]
        state, metrics = step(state, table, stack_batches(planned), planner.shapes[-1], frozen)
        losses.append(np.asarray(metrics.loss))
    return state, np.array(losses), frozen


def test_two_slots_on_one_base_equal_each_alone(student: Student) -> None:
    together, losses, frozen = run(student, [1, 2], 8)
    assert (losses[-1] < losses[0] - 0.05).all()
    before = student.split(student.load())[0]
    jax.tree.map(np.testing.assert_array_equal, before, frozen)
    alone, alone_losses, _ = run(student, [2], 8)
    np.testing.assert_allclose(losses[:, 1], alone_losses[:, 0], atol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), take(together.params, 1), take(alone.params, 0)
    )
    base = sum(leaf.size for leaf in jax.tree.leaves(frozen))
    moving = sum(leaf.size for leaf in jax.tree.leaves((together.params, together.moments)))
    assert moving < base  # parameters and two moments of both slots
    assert jnp.abs(take(together.params, 0)["layers"]["attention"]["q"]["lora"]["b"]).max() > 1e-3
