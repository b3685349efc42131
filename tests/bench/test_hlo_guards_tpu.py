"""The same guards on what libtpu compiles for a pod of v5e; XLA's CPU compiler chooses otherwise."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np
import pytest

from ftcot_jax.bench.compile_chips import find_topology
from ftcot_jax.bench.compile_cost import Cost
from ftcot_jax.bench.compile_hlo import Program
from ftcot_jax.bench.compile_programs import Setup
from tests.bench.hlo_cases import (
    check_arithmetic_and_host,
    check_in_place,
    check_students_stay_apart,
    check_talk,
    compiled,
    setup,
    told,
)

pytest.importorskip("libtpu", reason="the tpu extra brings the TPU's compiler")
pytestmark = pytest.mark.slow

LAYOUTS: dict[str, dict[str, Any]] = {
    "trial": {"trial": 4, "slots": 8},
    "fsdp": {"fsdp": 4},
    "trial-fsdp": {"trial": 2, "fsdp": 2, "slots": 2},
}
# How often each kind runs in a step at most, with libtpu 0.0.42.1.
FSDP = {"all-gather over fsdp": 45, "all-reduce over fsdp": 9, "all-to-all over fsdp": 3, "reduce-scatter over fsdp": 3}
MOST: dict[str, dict[str, int]] = {"trial": {}, "fsdp": FSDP, "trial-fsdp": FSDP}


@functools.cache
def step(layout: str) -> tuple[Setup, Program, Cost]:
    made = setup(find_topology("v5e:2x2").devices, **LAYOUTS[layout])
    return (made, *compiled(made.step(), made))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_train_step(layout: str) -> None:
    made, program, cost = step(layout)
    check_talk(cost, MOST[layout])
    check_students_stay_apart(cost)
    check_arithmetic_and_host(program)
    check_in_place(made, program)
    assert cost.unknown_loops == 0, "the time of a step cannot be counted: look for a loop without a known length"


@pytest.mark.parametrize("layout", ["trial", "trial-fsdp"])
def test_refilling_a_slot_leaves_others_where_they_are(layout: str) -> None:
    made = step(layout)[0]
    program, cost = compiled(made.refill(), made)
    check_talk(cost, {})
    assert len(program.aliased) == len(jax.tree.leaves(made._state())), "the other slots are copied, not kept"


def test_fsdp_computes_each_row_once_and_gathers_a_layer_at_a_time() -> None:
    cost = step("fsdp")[2]
    assert cost.flops < 1.1 * step("trial")[2].flops / 2 / 4, "look at rows_apart: rows are computed on several chips"
    in_layers = {one.kind for one in cost.collectives if one.count >= 3}
    assert {"all-gather", "reduce-scatter"} <= in_layers, f"weights and gradients travel by layer: {told(cost)}"


def test_a_call_to_the_host_is_seen() -> None:
    made = step("trial")[0]

    def prints(x: jax.Array) -> jax.Array:
        jax.debug.print("{}", x.sum())
        return x

    one = jax.sharding.SingleDeviceSharding(made.mesh.devices.flat[0])
    lowered = jax.jit(prints).lower(jax.ShapeDtypeStruct((8, 128), np.float32, sharding=one))
    with pytest.raises(AssertionError, match="waits for the host"):
        check_arithmetic_and_host(compiled(lowered, made)[0])
