"""The same guards on what libtpu compiles for a pod; only one process may hold libtpu, so they share a worker."""

from __future__ import annotations

import functools
import os
from typing import Any

import pytest

from ftcot_jax.bench.compile_chips import find_topology
from ftcot_jax.bench.compile_cost import Cost
from ftcot_jax.bench.compile_hlo import Program
from ftcot_jax.bench.compile_programs import Setup
from tests.bench.hlo_cases import compiled, setup
from tests.bench.test_hlo_guards import told

pytest.importorskip("libtpu", reason="the tpu extra brings the TPU's compiler")
os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "true")  # nothing here touches a chip
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("libtpu")]

LAYOUTS: dict[str, dict[str, Any]] = {"trial": {"trial": 4, "slots": 8}, "fsdp": {"fsdp": 4}}


@functools.cache
def step(layout: str) -> tuple[Setup, Program, Cost]:
    made = setup(find_topology("v5e:2x2").devices, **LAYOUTS[layout])
    return (made, *compiled(made.step(), made))


def test_students_over_the_trial_axis_never_talk() -> None:
    made, program, cost = step("trial")
    assert not cost.collectives, f"look at how the step indexes or reshapes the slot axis: {told(cost)}"
    assert cost.unknown_loops == 0
    assert len(program.aliased) > 30
    refill = compiled(made.refill(), made)[1]
    assert not refill.collectives, f"look at training/slots.py: {told(refill)}"


def test_fsdp_computes_each_row_once_and_gathers_a_layer_at_a_time() -> None:
    cost = step("fsdp")[2]
    assert cost.flops < 1.1 * step("trial")[2].flops / 2 / 4, "look at rows_apart: rows are computed on several chips"
    in_layers = {one.kind for one in cost.collectives if one.count >= 3}
    assert {"all-gather", "reduce-scatter"} <= in_layers, f"weights and gradients travel by layer: {told(cost)}"
