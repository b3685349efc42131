"""Eight virtual devices, laid out in every way, train what one device trains: three families, several steps."""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import jax
import numpy as np
import pytest

from ftcot_jax.training.mesh import AXES
from ftcot_jax.training.settings import MeshSettings
from tests.training.slot_runs import FAMILIES, run_slots, student_of

TRIALS = list(range(8))  # as many as the trial axis may have devices
LAYOUTS = [  # every set of axes; of 4 x 2 and 2 x 4 the first
    sizes
    for sizes in itertools.product((1, 2, 4, 8), repeat=4)
    if math.prod(sizes) == 8 and [size for size in sizes if size > 1] in ([8], [4, 2], [2, 2, 2])
]
ALWAYS = {  # cheap enough for every run of the suite; the others are slow
    ("llama", (1, 2, 2, 2), 2),
}


def cases() -> list[Any]:
    table = [(family, sizes, 1) for family in FAMILIES for sizes in LAYOUTS]
    table += [(family, sizes, 2) for family in FAMILIES for sizes in ((1, 2, 2, 2), (2, 2, 2, 1), (1, 4, 1, 2))]
    return [pytest.param(*case, marks=[] if case in ALWAYS else pytest.mark.slow) for case in table]


@functools.cache
def on_one_device(family: str) -> tuple[Any, np.ndarray]:
    state, metrics = run_slots(student_of(family), TRIALS)
    return jax.device_get((state.params, state.moments)), metrics


@pytest.mark.parametrize(("family", "sizes", "microbatches"), cases())
def test_eight_devices_equal_one(family: str, sizes: tuple[int, ...], microbatches: int) -> None:
    weights, metrics = on_one_device(family)
    axes = dict(zip(AXES, sizes, strict=True))
    state, spread = run_slots(student_of(family), TRIALS, mesh=MeshSettings(**axes), microbatches=microbatches)
    np.testing.assert_allclose(spread[:, 0], metrics[:, 0], rtol=1e-5, atol=1e-5)  # losses
    np.testing.assert_allclose(spread, metrics, rtol=1e-4, atol=1e-4)
    jax.tree.map(
        lambda ours, one: np.testing.assert_allclose(ours, one, rtol=1e-4, atol=1e-4),
        (state.params, state.moments),
        weights,
    )
    held = sum(leaf.addressable_shards[0].data.size for leaf in jax.tree.leaves(state.params))
    whole = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    assert held / whole < 2 * axes["data"] / 8  # but for norms, biases and positions, only `data` repeats weights
