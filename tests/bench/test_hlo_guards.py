"""What the compiled programs must and must not contain, on eight devices of this CPU.

A failure names what to look at. Where a change is meant, change the expectation together with docs/tpu_compile.md.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np
import pytest

from ftcot_jax.bench.compile_bytes import bytes_by_purpose
from ftcot_jax.bench.compile_cost import Cost
from ftcot_jax.bench.compile_hlo import Program
from ftcot_jax.bench.compile_programs import Setup
from ftcot_jax.training.flops import StepFlops
from ftcot_jax.training.slots import refill, take
from tests.bench.hlo_cases import (
    check_arithmetic_and_host,
    check_in_place,
    check_students_stay_apart,
    check_talk,
    compiled,
    setup,
    talk,
    tiny,
    told,
    weight_bytes,
)

LAYOUTS: dict[str, dict[str, Any]] = {
    "trial": {"trial": 8, "slots": 16},
    "trial-map": {"trial": 8, "slots": 16, "executor": "map"},
    "data": {"data": 8},
    "fsdp": {"fsdp": 8},
    "tensor": {"tensor": 8},
    "trial-fsdp": {"trial": 2, "fsdp": 4, "slots": 4},
}

# How often each kind of collective runs in a step at most, with jax 0.10.2 and 0.12.0.1.
FSDP = {"all-gather over fsdp": 43, "all-reduce over fsdp": 9, "all-to-all over fsdp": 4}
MOST: dict[str, dict[str, int]] = {
    "trial": {},
    "trial-map": {},
    "data": {"all-reduce over data": 9, "all-gather over data": 1},
    "fsdp": FSDP,
    "tensor": {"all-reduce over tensor": 17},
    "trial-fsdp": FSDP,
}

# Layouts whose programs are held to the same by the slow suite.
SLOW = ("trial-map", "tensor", "trial-fsdp")
ALL = [pytest.param(layout, marks=pytest.mark.slow if layout in SLOW else ()) for layout in LAYOUTS]


@functools.cache
def step(layout: str) -> tuple[Setup, Program, Cost]:
    made = setup(jax.devices("cpu"), **LAYOUTS[layout])
    return (made, *compiled(made.step(), made))


@pytest.mark.parametrize("layout", ALL)
def test_no_more_talk_than_is_known(layout: str) -> None:
    check_talk(step(layout)[2], MOST[layout])


@pytest.mark.parametrize("layout", ALL)
def test_nothing_travels_between_trials(layout: str) -> None:
    check_students_stay_apart(step(layout)[2])


def test_data_parallel_sums_each_gradient_once_and_little_else() -> None:
    made, _, cost = step("data")
    reduced = sum(one.count * one.payload for one in cost.collectives if one.kind in ("all-reduce", "reduce-scatter"))
    whole = weight_bytes(made)
    assert 0.5 * whole < reduced < 1.5 * whole, f"gradients of {whole} B are summed once a step: {told(cost)}"
    gathered = sum(one.count * one.payload for one in cost.collectives if one.kind == "all-gather")
    vocabulary = 4 * made.student.shapes["embed"].size
    assert gathered < 2.5 * vocabulary, f"only the vocabulary's gradient is gathered: look at _advance: {told(cost)}"


def test_fsdp_gathers_weights_and_never_spreads_activations_by_width() -> None:
    made, _, cost = step("fsdp")
    whole = weight_bytes(made)
    assert any(name.startswith(("all-gather", "collective-permute")) for name in talk(cost)), (
        f"weights are gathered: {told(cost)}"
    )
    # Forward, backward and the gradients' sum; with the vocabulary's part, which travels as activations.
    assert cost.wire < 6 * whole, f"look at rows_apart and words_apart: {cost.wire:.0f} B of {whole} B: {told(cost)}"
    assert made.mesh.shape["fsdp"] == 8
    plain = step("trial")[2].flops / 2  # two slots a device, each the whole of this batch
    assert cost.flops < 1.1 * plain / 8, "each device computes its own rows only: look at rows_apart"


@pytest.mark.slow
def test_tensor_parallel_sums_activations_and_gathers_no_weights() -> None:
    made, _, cost = step("tensor")
    largest = max(4 * int(np.prod(leaf.shape[1:])) for leaf in jax.tree.leaves(made.student.shapes["layers"]))
    assert "all-reduce over tensor" in talk(cost), told(cost)
    in_layers = [one for one in cost.collectives if one.kind == "all-gather" and one.count > 1]
    assert all(one.payload < largest for one in in_layers), f"look at the family's sharding_rules: {told(cost)}"


@pytest.mark.parametrize("layout", ALL)
def test_no_float64_and_no_call_to_the_host(layout: str) -> None:
    check_arithmetic_and_host(step(layout)[1])


@pytest.mark.parametrize("layout", ALL)
def test_the_state_is_changed_in_place(layout: str) -> None:
    made, program, _ = step(layout)
    check_in_place(made, program)


@pytest.mark.parametrize("layout", [one for one in ALL if one.values[0] not in ("trial-map", "tensor")])
def test_refilling_a_slot_leaves_others_where_they_are(layout: str) -> None:
    made = setup(jax.devices("cpu"), **LAYOUTS[layout])
    program, cost = compiled(made.refill(), made)
    check_students_stay_apart(cost)
    assert len(program.aliased) == len(jax.tree.leaves(made._state())), "the other slots are copied, not kept"


def test_taking_a_slot_moves_one_student() -> None:
    made = setup(jax.devices("cpu"), trial=8, slots=16)
    cost = compiled(made.take(), made)[1]
    assert cost.wire < 2.1 * weight_bytes(made), f"look at training/slots.py: {told(cost)}"


def test_spread_slots_are_filled_and_taken_bit_for_bit() -> None:
    mesh = setup(jax.devices("cpu"), trial=8).mesh
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("trial"))
    values = {"w": np.array([-0.0, np.nan, np.inf, 1e-40], np.float32), "live": np.array(True), "step": np.int32(-7)}
    slots = {
        name: jax.device_put(np.stack([np.full_like(value, number) for number in range(16)]), place)
        for name, value in values.items()
    }
    before = jax.tree.map(np.asarray, slots)
    filled: Any = refill(slots, 5, values)  # type: ignore[arg-type]
    for name, value in values.items():
        np.testing.assert_array_equal(np.delete(np.asarray(filled[name]), 5, 0), np.delete(before[name], 5, 0))
        assert np.asarray(take(filled, 5)[name]).tobytes() == value.tobytes()
        assert filled[name].sharding.is_equivalent_to(place, filled[name].ndim)


@pytest.mark.parametrize("layout", ["trial", "fsdp"])
def test_counted_arithmetic_is_the_models(layout: str) -> None:
    """Of the compiled rows and label room, attention unmasked; within 2%."""
    made, _, cost = step(layout)
    student, shape = tiny(), made.shape
    model = StepFlops.of(student.shapes_by_path, jax.eval_shape(student.head, student.shapes).shape)
    tokens = shape.rows * shape.length
    expected = model.text * tokens + model.label * shape.labels + model.causal * tokens * shape.length
    assert cost.flops * made.mesh.size == pytest.approx(made.slots * expected, rel=0.02)
    assert cost.unknown_loops == 0


def test_purposes_of_bytes_add_up() -> None:
    made, program, cost = step("trial")
    parts = bytes_by_purpose(program, made)
    assert sum(parts.values()) == pytest.approx(cost.bytes)
    weights = made.slots // made.mesh.size * weight_bytes(made)
    # Counted in the program: clipping reads the gradients for their norm, and reads and writes them divided. Each of
    # the three updates is a fusion of its own, which reads both gradients and chooses: a moment's reads and writes that
    # moment (4), the weights' reads the moments too (6). Of the smallest arrays some are read once.
    passes = 1 + 2 + 4 + 4 + 6
    assert 0.95 * passes * weights < parts["optimizer"] <= passes * weights
    layers, shape = 3, made.shape
    scores = 4 * layers * 8 * shape.rows * shape.length**2  # float32, of eight heads
    assert parts["attention scores"] > 2 * scores, "written forward, read backward"


def test_the_guards_see_what_they_are_for() -> None:
    """A gather over trials, a print, float64, and a state that is copied, each in a program of one line."""
    made = setup(jax.devices("cpu"), trial=8)
    over_trials = jax.sharding.NamedSharding(made.mesh, jax.sharding.PartitionSpec("trial"))
    slots = jax.ShapeDtypeStruct((8, 4), np.float32, sharding=over_trials)
    everywhere = jax.sharding.NamedSharding(made.mesh, jax.sharding.PartitionSpec())
    cost = compiled(jax.jit(lambda x: x * 2, out_shardings=everywhere).lower(slots), made)[1]
    with pytest.raises(AssertionError, match=r"1 all-gather over trial"):
        check_students_stay_apart(cost)
    with pytest.raises(AssertionError, match=r"\{'all-gather over trial': 1\} where \{\} are known: look at"):
        check_talk(cost, {})

    def prints(x: jax.Array) -> jax.Array:
        jax.debug.print("{}", x.sum())
        return x

    with pytest.raises(AssertionError, match="waits for the host"):
        check_arithmetic_and_host(compiled(jax.jit(prints).lower(np.ones(4, np.float32)), made)[0])
    with jax.enable_x64(True):
        wide = jax.jit(lambda x: x.astype("float64") * 2).lower(np.ones(4, np.float32))
    with pytest.raises(AssertionError, match="float64 at"):
        check_arithmetic_and_host(compiled(wide, made)[0])
    state = made._state()
    with pytest.raises(AssertionError, match="donated but copied"):
        check_in_place(made, compiled(jax.jit(lambda x: jax.tree.map(lambda y: y + 1, x)).lower(state), made)[0])
