"""The mesh: how devices are laid out, and where each array of the train state lives."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ftcot_jax.errors import UsageError
from ftcot_jax.training.settings import MeshSettings

AXES = ("trial", "data", "fsdp", "tensor")
Rules = Sequence[tuple[str, tuple[str | None, ...]]]


def make_mesh(settings: MeshSettings, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Builds the mesh of axes trial, data, fsdp, tensor over the first devices it needs.

    Raises:
      UsageError: the axes ask for more devices than there are, two of them are -1, or slices cut them badly.
    """
    devices = jax.devices() if devices is None else devices
    sizes = _sizes(settings, len(devices))
    grid = device_grid(sizes, devices[: math.prod(sizes)], settings.slices)
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def device_grid(sizes: Sequence[int], devices: Sequence[Any], slices: int | None) -> np.ndarray:
    """Lays devices out so that what talks most is closest.

    Slices are joined by a slow network. They become the outer part of `trial`, over which nothing travels, and what
    `trial` cannot take the outer part of `data`, over which gradients travel once a step; `fsdp` and `tensor`, which
    talk in every layer, stay within a slice. It is `mesh_utils.create_hybrid_device_mesh`, also for devices that do
    not tell their slices.

    Args:
      sizes: of the four axes.
      devices: as many as their product.
      slices: how many slices the devices come in; None for as many as they tell of.

    Returns:
      The devices, of shape `sizes`.

    Raises:
      UsageError: the slices are not alike, not as many as asked for, or do not divide `trial` and `data`; or the
        devices are no block of a TPU's torus.
    """
    groups = _slices(devices, slices)
    trial = math.gcd(len(groups), sizes[0])
    outer = (trial, len(groups) // trial)
    if sizes[1] % outer[1]:
        raise UsageError(
            f"mesh: {len(groups)} slices must divide trial x data, got trial {sizes[0]}, data {sizes[1]}; "
            "fsdp and tensor stay within a slice"
        )
    inner = (sizes[0] // outer[0], sizes[1] // outer[1], *sizes[2:])
    try:
        grids = [mesh_utils.create_device_mesh(inner, group, allow_split_physical_axes=True) for group in groups]
    except NotImplementedError as error:
        raise UsageError(
            f"mesh: {dict(zip(AXES, inner, strict=True))} cannot be laid on this torus: {error}"
        ) from error
    except AssertionError as error:  # a torus is walked by coordinates: three chips of 2x2 are none
        raise UsageError(
            f"mesh: {math.prod(inner)} chips are no whole block of the pod; take a power of two, or trial=-1 for all"
        ) from error
    by_slice = np.stack(grids).reshape(*outer, *inner)
    return by_slice.transpose(0, 2, 1, 3, 4, 5).reshape(sizes)


def _sizes(settings: MeshSettings, count: int) -> list[int]:
    """Devices along each axis, where `count` are there."""
    sizes = [getattr(settings, axis) for axis in AXES]
    if sizes.count(-1) > 1 or 0 in sizes:
        raise UsageError(f"mesh: at most one axis may be -1 and none 0, got {dict(zip(AXES, sizes, strict=True))}")
    fixed = math.prod(size for size in sizes if size > 0)
    if fixed > count or (-1 in sizes and count % fixed):
        raise UsageError(
            f"mesh: {dict(zip(AXES, sizes, strict=True))} does not fit the {count} devices here; "
            "their product must not exceed, and with -1 must divide, the number of devices"
        )
    return [count // fixed if size == -1 else size for size in sizes]


def _slices(devices: Sequence[Any], wanted: int | None) -> list[list[Any]]:
    """Devices by slice; where they do not tell, consecutive ones, which are those of one machine."""
    groups: dict[int, list[Any]] = {}
    for device in devices:
        groups.setdefault(getattr(device, "slice_index", 0), []).append(device)
    if len(groups) == 1 and wanted is not None and len(devices) % wanted == 0:
        size = len(devices) // wanted
        return [list(devices[start : start + size]) for start in range(0, len(devices), size)]
    if wanted not in (None, len(groups)):
        raise UsageError(f"mesh: slices={wanted} does not cut the {len(devices)} devices used, of {len(groups)} slices")
    if len({len(group) for group in groups.values()}) > 1:
        shown = ", ".join(f"{len(group)} of slice {number}" for number, group in sorted(groups.items()))
        raise UsageError(f"mesh: the {len(devices)} devices used are {shown}; use as many of each")
    return [group for _, group in sorted(groups.items())]


def state_shardings(mesh: Mesh, rules: Rules, state: Any) -> Any:
    """Returns a sharding for every leaf of a slot-stacked train state.

    The leading axis of every leaf goes over `trial`; the others as `params_shardings` says (an optimizer moment's
    path ends in its parameter's).

    Args:
      mesh: the mesh.
      rules: the student family's (path pattern, axis names of the parameter's dimensions).
      state: a pytree of arrays or shapes, each with the slot axis first.
    """
    return _shardings(mesh, rules, state, ("trial",))


def params_shardings(mesh: Mesh, rules: Rules, params: Any) -> Any:
    """Returns a sharding for every leaf of params without a slot axis, whole along `trial`.

    A leaf follows the first rule whose pattern occurs in its path. A dimension that its axis does not divide
    stays whole.
    """
    return _shardings(mesh, rules, params, ())


def _shardings(mesh: Mesh, rules: Rules, tree: Any, leading: tuple[str, ...]) -> Any:
    def place(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        rest = leaf.shape[len(leading) :]
        axes: tuple[str | None, ...] = next((spec for pattern, spec in rules if re.search(pattern, name)), ())
        wanted = (*leading, *(axes if len(axes) == len(rest) else ()))
        fitting = [
            axis if axis is not None and size % mesh.shape[axis] == 0 else None
            for axis, size in zip(wanted, leaf.shape, strict=False)
        ]
        return NamedSharding(mesh, PartitionSpec(*fitting))

    return jax.tree_util.tree_map_with_path(place, tree)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Sharding of (slots, microbatches, rows, length) tokens: slots over `trial`, rows over `data` and `fsdp`."""
    return NamedSharding(mesh, PartitionSpec("trial", None, ("data", "fsdp")))


def words_apart(head_VxE: jax.Array) -> jax.Array:
    """Spreads the vocabulary projection's rows over all devices that share a trial.

    A batch's label tokens are few beside the vocabulary: so each device projects them all onto its own words, and what
    travels is of their size, not the projection's. Nothing is done outside of `jax.sharding.use_abstract_mesh`.
    """
    sizes = dict(jax.sharding.get_abstract_mesh().shape)
    if math.prod(sizes.get(axis, 1) for axis in AXES[1:]) == 1:
        return head_VxE
    return jax.lax.with_sharding_constraint(head_VxE, PartitionSpec(AXES[1:]))
