"""Slots side by side: each as if alone, none hurt by another's divergence, all by one compiled program."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from ftcot_jax.records.batch import device_table, stack_batches
from ftcot_jax.records.plan import Planner, TrialData
from ftcot_jax.records.table import RecordTable
from ftcot_jax.training.mesh import make_mesh
from ftcot_jax.training.optimizer import Hyper
from ftcot_jax.training.pool import Pool, PoolOptions
from ftcot_jax.training.settings import CheckpointSettings, MeshSettings, TrainSettings
from ftcot_jax.training.slots import empty_slots, refill, refill_slot, take
from ftcot_jax.training.step import make_train_step, new_state
from ftcot_jax.training.trial import Trial
from tests.training.slot_runs import run_slots, student_of
from tests.training.test_pool import Recorder
from tests.training.tiny import TinyStudent, make_records

STUDENT = TinyStudent()
ALIKE = RecordTable.from_rows(  # records of one length, so that every batch has one shape
    [
        {"input_ids": ids[:6], "label_ids": ids[6:], "sample_index": number, "completion_index": 0, "correct": True}
        for number, ids in enumerate(np.random.default_rng(0).integers(1, 50, (24, 14)))
    ]
)


@pytest.mark.parametrize("executor", [pytest.param("vmap", marks=pytest.mark.slow), "map"])
@pytest.mark.parametrize(
    "family", ["llama", pytest.param("gpt2", marks=pytest.mark.slow), pytest.param("t5", marks=pytest.mark.slow)]
)
def test_a_slot_equals_the_trial_run_alone(family: str, executor: Any) -> None:
    """Trials of unlike learning rate, schedule, decay, clipping and data."""
    student = student_of(family)
    together, metrics = run_slots(student, [0, 1, 2], executor=executor)
    for slot in (0, 2):
        alone, alone_metrics = run_slots(student, [slot], executor=executor)
        np.testing.assert_allclose(metrics[:, :, slot], alone_metrics[:, :, 0], rtol=1e-5, atol=1e-5)
        for ours, one in zip(jax.tree.leaves(take(together, slot)), jax.tree.leaves(take(alone, 0)), strict=True):
            np.testing.assert_allclose(ours, one, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("executor", ["vmap", "map"])
def test_a_slot_that_diverges_leaves_its_neighbours_bit_for_bit(executor: Any) -> None:
    table, mesh, data = make_records(23), make_mesh(MeshSettings()), TrialData(np.arange(23), 0, 8)
    planner = Planner.for_trials(table, [data], width=16)
    hyper = Hyper.of(TrainSettings(learning_rate=1e-2, clip_norm=1.0), 5)
    step, ends = make_train_step(STUDENT, mesh, executor), []
    for poison in (0.0, np.nan):
        states = [new_state(STUDENT.init(seed), hyper) for seed in range(3)]
        sick = jax.tree.map(lambda leaf, p=poison: leaf.at[0, 0].add(p), states[1].params)
        state = empty_slots(states[0], 3, mesh, STUDENT.sharding_rules)
        for slot, one in enumerate([states[0], states[1]._replace(params=sick), states[2]]):
            state = refill(state, slot, one)
        for number in range(5):
            planned, shape = planner.batch(data.at(number))
            state, metrics = step(state, device_table(table), stack_batches([planned] * 3), shape)
        assert np.isnan(metrics.loss).tolist() == [False, bool(np.isnan(poison)), False]
        ends.append(jax.device_get(state))
    for slot in (0, 2):
        jax.tree.map(np.testing.assert_array_equal, take(ends[0], slot), take(ends[1], slot))


def pool_of(folder: Path, changes: list[dict[str, Any]], sick: int | None = None) -> tuple[Pool, Recorder]:
    """Runs a trial of every change through two slots; the initial weights of number `sick` hold a NaN."""
    trials = []
    for number, change in enumerate(changes):
        steps = change.get("steps", 6)

        def initial(seed: int = number) -> Any:
            weights = STUDENT.init(seed)
            return weights if seed != sick else jax.tree.map(lambda leaf: leaf.at[0, 0].set(np.nan), weights)

        trials.append(
            Trial(
                key=f"trial{number}",
                name=f"trial {number}",
                data=TrialData(np.arange(24), seed=number, batch_examples=4),
                hyper=Hyper.of(TrainSettings(**change), steps),
                steps=steps,
                initial=initial,
                looks=frozenset(),
            )
        )
    recorder = Recorder()
    options = PoolOptions(2, "vmap", CheckpointSettings(), folder, None)
    pool = Pool(STUDENT, "tiny", ALIKE, trials, make_mesh(MeshSettings()), options, recorder, recorder.lines.append)
    pool.run()
    return pool, recorder


GRID: list[dict[str, Any]] = [
    {"learning_rate": 1e-2},
    {"learning_rate": 3e-3, "schedule": "cosine", "warmup_fraction": 0.3, "steps": 9},
    {"weight_decay": 0.2, "beta1": 0.5, "beta2": 0.9, "epsilon": 1e-3, "steps": 4},
    {"clip_norm": 0.1, "schedule": "linear", "seed": 7},
    {"optimizer_options": {"eps_root": 1e-6}},
]


def test_one_program_serves_a_grid_of_hyper_parameters(tmp_path: Path) -> None:
    before = refill_slot._cache_size()
    pool, recorder = pool_of(tmp_path, GRID)
    assert len(recorder.done) == len(GRID)
    assert pool._step._cache_size() == 1  # type: ignore[attr-defined]
    assert refill_slot._cache_size() <= before + 2  # slots as they are made, and as a step returns them
    ends = [np.asarray(recorder.done[f"trial{number}"]["query"]) for number in range(len(GRID))]
    assert all(np.abs(one - STUDENT.init(number)["query"]).max() > 1e-4 for number, one in enumerate(ends))


def test_a_diverged_trial_is_replaced_and_its_neighbours_are_bit_for_bit_the_same(tmp_path: Path) -> None:
    _, well = pool_of(tmp_path / "well", GRID)
    _, ill = pool_of(tmp_path / "ill", GRID, sick=1)
    assert ill.reasons == {"trial1": "loss became nan at step 0"}
    assert sorted(ill.done) == ["trial0", "trial2", "trial3", "trial4"]
    for key, weights in ill.done.items():
        jax.tree.map(np.testing.assert_array_equal, weights, well.done[key])
