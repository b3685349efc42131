"""The layout of devices: slices lie along the outer axes, and what cannot be laid out is one clear line."""

from __future__ import annotations

import dataclasses
import itertools
import re

import jax
import numpy as np
import pytest
from jax.experimental import mesh_utils

from ftcot_jax.errors import UsageError
from ftcot_jax.training.mesh import device_grid, make_mesh
from ftcot_jax.training.settings import MeshSettings


@dataclasses.dataclass(frozen=True)
class Chip:
    """As much of a device as a layout reads."""

    id: int
    slice_index: int
    platform: str = "cpu"
    device_kind: str = "chip"


def chips(slices: int, each: int) -> list[Chip]:
    """Devices of several slices, in the order of their ids, which mixes the slices."""
    return [Chip(number, number % slices) for number in range(slices * each)]


@pytest.mark.parametrize(
    ("sizes", "slices", "outer"),
    [
        ((1, 4, 2, 1), 2, (1, 2, 1, 1)),
        ((4, 1, 2, 1), 2, (2, 1, 1, 1)),
        ((2, 4, 1, 2), 4, (2, 2, 1, 1)),
        ((1, 8, 1, 1), 8, (1, 8, 1, 1)),
        ((3, 2, 2, 2), 2, (1, 2, 1, 1)),
        ((2, 2, 2, 2), 1, (1, 1, 1, 1)),
    ],
)
def test_slices_lie_along_the_outer_part_of_trial_then_data(
    sizes: tuple[int, ...], slices: int, outer: tuple[int, ...]
) -> None:
    devices = chips(slices, int(np.prod(sizes)) // slices)
    grid = device_grid(sizes, devices, None)
    inner = tuple(size // out for size, out in zip(sizes, outer, strict=True))
    for block in itertools.product(*map(range, outer)):
        at = tuple(slice(b * size, (b + 1) * size) for b, size in zip(block, inner, strict=True))
        assert len({device.slice_index for device in grid[at].ravel()}) == 1
    assert len({device.id for device in grid.ravel()}) == len(devices)
    theirs = mesh_utils.create_hybrid_device_mesh(inner, outer, devices)
    assert (grid == theirs).all()


@pytest.mark.parametrize(
    ("sizes", "devices", "slices", "message"),
    [
        ((1, 1, 4, 2), chips(2, 4), None, "2 slices must divide trial x data, got trial 1, data 1; fsdp and tensor"),
        ((3, 2, 1, 1), [*chips(3, 2)[:5], Chip(9, 0)], None, "are 3 of slice 0, 2 of slice 1, 1 of slice 2; use as"),
        ((1, 4, 1, 1), chips(2, 2), 4, "slices=4 does not cut the 4 devices used, of 2 slices"),
        ((1, 4, 1, 1), chips(1, 4), 3, "slices=3 does not cut the 4 devices used, of 1 slices"),
    ],
)
def test_slices_that_do_not_fit_are_one_clear_line(
    sizes: tuple[int, ...], devices: list[Chip], slices: int | None, message: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(message)) as raised:
        device_grid(sizes, devices, slices)
    assert "\n" not in str(raised.value)


@dataclasses.dataclass(frozen=True)
class TorusChip(Chip):
    """A chip of a TPU, which knows its place."""

    platform: str = "tpu"
    coords: tuple[int, int, int] = (0, 0, 0)
    core_on_chip: int = 0


def test_chips_that_are_no_block_of_the_pod_are_one_clear_line() -> None:
    """`ftcot compile mesh.trial=3 --topology v5e:2x2` ended with jax's own assertion."""
    square = [TorusChip(2 * y + x, 0, coords=(x, y, 0)) for y in range(2) for x in range(2)]
    assert device_grid((4, 1, 1, 1), square, None).size == 4
    assert device_grid((2, 1, 1, 1), square[:2], None).size == 2
    with pytest.raises(UsageError, match="mesh: 3 chips are no whole block of the pod") as raised:
        device_grid((3, 1, 1, 1), square[:3], None)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"data": -1, "fsdp": -1}, "at most one axis may be -1 and none 0"),
        ({"data": 0}, "at most one axis may be -1 and none 0"),
        ({"data": 4, "tensor": 4}, "does not fit the 8 devices here"),
        ({"trial": 3, "data": -1}, "does not fit the 8 devices here"),
    ],
)
def test_axes_that_do_not_fit_are_one_clear_line(axes: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        make_mesh(MeshSettings(**axes))
    assert "\n" not in str(raised.value)


def test_devices_that_do_not_tell_are_cut_into_consecutive_slices() -> None:
    mesh = make_mesh(MeshSettings(trial=2, data=-1, slices=4))
    assert dict(mesh.shape) == {"trial": 2, "data": 4, "fsdp": 1, "tensor": 1}
    assert mesh.devices.ravel().tolist() == jax.devices()
    assert make_mesh(MeshSettings(data=2, slices=2)).devices.ravel().tolist() == jax.devices()[:2]
