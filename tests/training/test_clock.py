"""The clock: every moment in one part, and all of them the wall time."""

from __future__ import annotations

import time

import pytest

from ftcot_jax.training.clock import PARTS, Clock


def test_nested_parts_are_counted_once_and_sum_to_the_wall_time() -> None:
    began = time.monotonic()
    clock = Clock()
    with clock.within("step"):
        time.sleep(0.02)
        with clock.within("compile"):
            time.sleep(0.05)
        time.sleep(0.01)
    with pytest.raises(KeyError), clock.within("evaluate"):
        raise KeyError  # an error inside leaves the clock where it was
    clock.move(0.01, "step", "input")
    spent = clock.read()
    assert sum(spent.values()) == pytest.approx(time.monotonic() - began, abs=0.005)
    assert tuple(spent) == PARTS
    assert spent["compile"] >= 0.05
    assert 0.02 <= spent["step"] < spent["compile"]
    assert spent["input"] == pytest.approx(0.01)
    assert spent["evaluate"] < 0.005
