"""The packed step equals the padded computation; slots equal trials run alone; AdamW equals PyTorch's."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ftcot_jax.records.batch import assemble, device_table, stack_batches
from ftcot_jax.records.plan import Planner, TrialData
from ftcot_jax.records.table import RecordTable
from ftcot_jax.training.mesh import make_mesh
from ftcot_jax.training.optimizer import Hyper, learning_rate
from ftcot_jax.training.settings import MeshSettings, TrainSettings
from ftcot_jax.training.slots import empty_slots, refill, take
from ftcot_jax.training.step import SlotState, batch_loss, make_train_step, new_state
from tests.training.tiny import TinyStudent, make_records

STUDENT = TinyStudent()
TABLE = make_records(23)


def padded_loss(params: Any, table: RecordTable, records: np.ndarray) -> jax.Array:
    """The reference: each record on a row of its own, padded; mean cross-entropy over label tokens."""
    longest = int(table.lengths[records].max())
    tokens, labelled = np.zeros((len(records), longest), int), np.zeros((len(records), longest), bool)
    for row, record in enumerate(records):
        tokens[row, : table.lengths[record]] = table.record(record)
        labelled[row, table.prompt_lengths[record] : table.lengths[record]] = True
    positions = np.broadcast_to(np.arange(longest), tokens.shape)
    hidden = STUDENT.hidden(params, jnp.asarray(tokens), jnp.ones_like(tokens), jnp.asarray(positions))
    log_probability = jax.nn.log_softmax(hidden[:, :-1] @ STUDENT.head(params).T)
    picked = jnp.take_along_axis(log_probability, jnp.asarray(tokens[:, 1:, None]), axis=2)[..., 0]
    return -(picked * labelled[:, 1:]).sum() / labelled[:, 1:].sum()


def test_packed_loss_and_gradient_equal_the_padded_ones() -> None:
    trial = TrialData(np.arange(23), seed=1, batch_examples=8)
    planner = Planner.for_trials(TABLE, [trial], width=16)
    params = STUDENT.init(0)
    table = device_table(TABLE)
    for step in range(trial.steps_in(0)):
        records = trial.at(step)
        planned, shape = planner.batch(records)
        batch = assemble(table, planned, shape)
        ours = jax.value_and_grad(lambda p, b=batch: batch_loss(STUDENT, p, b))(params)
        padded = jax.value_and_grad(lambda p, r=records: padded_loss(p, TABLE, r))(params)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), ours, padded)


def run_slots(
    trials: list[tuple[TrialData, Hyper, Any]], steps: int, executor: str, mesh: MeshSettings | None = None
) -> tuple[SlotState, np.ndarray]:
    """Trains the trials side by side and returns the final state and the losses (steps, slots)."""
    layout = make_mesh(mesh or MeshSettings())
    share = layout.shape["data"] * layout.shape["fsdp"]
    planner = Planner.for_trials(TABLE, [data for data, _, _ in trials], row_multiple=share, width=16)
    table = device_table(TABLE)
    one = new_state(trials[0][2], trials[0][1])
    state = empty_slots(one, len(trials), layout, STUDENT.sharding_rules)
    for slot, (_, hyper, params) in enumerate(trials):
        state = refill(state, slot, new_state(params, hyper))
    step_slots = make_train_step(STUDENT, layout, executor)  # type: ignore[arg-type]
    losses = []
    for step in range(steps):
        batches, shape = planner.together([data.at(step) for data, _, _ in trials])
        state, metrics = step_slots(state, table, stack_batches(batches), shape)
        losses.append(np.asarray(metrics.loss))
    return state, np.array(losses)


def trials_of(count: int) -> list[tuple[TrialData, Hyper, Any]]:
    made = []
    for number in range(count):
        settings = TrainSettings(learning_rate=1e-2 * (number + 1), weight_decay=0.1 * number, schedule="cosine")
        data = TrialData(np.arange(number, 23), seed=number, batch_examples=5)
        made.append((data, Hyper.of(settings, total_steps=12), STUDENT.init(number)))
    return made


@pytest.mark.parametrize("executor", ["vmap", "map"])
def test_a_slot_equals_the_trial_run_alone(executor: str) -> None:
    trials = trials_of(3)
    together, losses = run_slots(trials, 12, executor)
    for slot, trial in enumerate(trials):
        alone, alone_losses = run_slots([trial], 12, "map")
        np.testing.assert_allclose(losses[:, slot], alone_losses[:, 0], atol=1e-5)
        assert float(jnp.abs(take(alone.params, 0)["query"] - trial[2]["query"]).max()) > 1e-2
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5),
            take(together.params, slot),
            take(alone.params, 0),
        )


@pytest.mark.parametrize(
    "axes",
    [
        {"trial": 2},
        {"data": 4},
        {"fsdp": 2},
        {"tensor": 4},
        {"trial": 2, "data": 2, "fsdp": 2},
        {"trial": 2, "fsdp": 2, "tensor": 2},
    ],
)
def test_eight_devices_equal_one(axes: dict[str, int]) -> None:
    trials = trials_of(2)
    one, losses = run_slots(trials, 6, "vmap")
    many, spread_losses = run_slots(trials, 6, "vmap", MeshSettings(**axes))
    np.testing.assert_allclose(spread_losses, losses, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), many.params, one.params)
    used = many.params["query"].sharding
    assert len(used.device_set) == np.prod(list(axes.values()))
    assert {axis for axis in used.spec if axis and used.mesh.shape[axis] > 1} == axes.keys() - {"data"}


@pytest.mark.parametrize("executor", ["vmap", "map"])
def test_an_empty_slot_keeps_its_state(executor: str) -> None:
    trials = trials_of(2)
    state = empty_slots(new_state(trials[0][2], trials[0][1]), 2, make_mesh(MeshSettings()), STUDENT.sharding_rules)
    state = refill(state, 1, new_state(trials[1][2], trials[1][1]))
    before = jax.device_get(take(state, 0))
    planner = Planner.for_trials(TABLE, [data for data, _, _ in trials], width=16)
    batch, shape = planner.batch(trials[1][0].at(0))
    empty, _ = planner.batch(np.zeros(0, int))
    step = make_train_step(STUDENT, make_mesh(MeshSettings()), executor)  # type: ignore[arg-type]
    state, metrics = step(state, device_table(TABLE), stack_batches([empty, batch]), shape)
    jax.tree.map(np.testing.assert_array_equal, before, jax.device_get(take(state, 0)))
    assert int(state.step[1]) == 1
    assert float(metrics.loss[0]) == 0
    assert float(metrics.loss[1]) > 0


def test_a_batch_of_more_shapes_compiles_once_a_shape() -> None:
    step = make_train_step(STUDENT, make_mesh(MeshSettings()), "map")
    trials = trials_of(2)
    planner = Planner.for_trials(TABLE, [data for data, _, _ in trials], width=16)
    shapes = set()
    state = None
    for data, hyper, params in trials:  # the second trial refills the slot of the first
        state = empty_slots(new_state(params, hyper), 1, make_mesh(MeshSettings()), ()) if state is None else state
        state = refill(state, 0, new_state(params, hyper))
        for number in range(10):
            batch, shape = planner.batch(data.at(number))
            shapes.add(shape)
            state, _ = step(state, device_table(TABLE), stack_batches([batch]), shape)
    assert step._cache_size() == len(shapes)  # type: ignore[attr-defined]


def test_schedules_by_hand() -> None:
    def rates(schedule: str, warmup: float) -> list[float]:
        settings = TrainSettings(learning_rate=1.0, schedule=schedule, warmup_fraction=warmup)  # type: ignore[arg-type]
        hyper = Hyper.of(settings, total_steps=10)
        return [round(float(learning_rate(hyper, jnp.int32(step))), 4) for step in range(10)]

    assert rates("constant", 0) == [1.0] * 10
    assert rates("linear", 0) == [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]
    assert rates("cosine", 0.2) == [0.5, 1.0, 1.0, 0.9619, 0.8536, 0.6913, 0.5, 0.3087, 0.1464, 0.0381]


def test_adamw_with_clipping_follows_its_definition() -> None:
    """Loshchilov and Hutter's update, in float64 numpy, against the step's on the same gradients."""
    settings = TrainSettings(learning_rate=1e-2, weight_decay=0.1, beta2=0.98, clip_norm=0.5)
    data, hyper, params = trials_of(1)[0]
    hyper = Hyper.of(settings, total_steps=8)
    state, _ = run_slots([(data, hyper, params)], 8, "map")

    p = {name: np.asarray(value, np.float64) for name, value in params.items()}
    m, v = ({name: np.zeros_like(value) for name, value in p.items()} for _ in range(2))
    clipped = 0
    for step in range(8):
        as_float32 = {name: jnp.asarray(value, jnp.float32) for name, value in p.items()}
        gradients = jax.grad(padded_loss)(as_float32, TABLE, data.at(step))
        norm = np.sqrt(sum(float((g.astype(np.float64) ** 2).sum()) for g in map(np.asarray, gradients.values())))
        clipped += norm > 0.5
        for name in p:
            g = np.asarray(gradients[name], np.float64) * min(1, 0.5 / norm)
            m[name] = 0.9 * m[name] + 0.1 * g
            v[name] = 0.98 * v[name] + 0.02 * g * g
            update = (m[name] / (1 - 0.9 ** (step + 1))) / (np.sqrt(v[name] / (1 - 0.98 ** (step + 1))) + 1e-8)
            p[name] -= 1e-2 * (update + 0.1 * p[name])
    assert clipped > 0
    for name in p:
        np.testing.assert_allclose(take(state.params, 0)[name], p[name], rtol=1e-4, atol=1e-5)
