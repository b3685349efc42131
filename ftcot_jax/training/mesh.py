"""The mesh: how devices are laid out, and where each array of the train state lives."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from ftcot_jax.errors import UsageError
from ftcot_jax.training.settings import MeshSettings

AXES = ("trial", "data", "fsdp", "tensor")
Rules = Sequence[tuple[str, tuple[str | None, ...]]]


def make_mesh(settings: MeshSettings, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """Builds the mesh of axes trial, data, fsdp, tensor over the first devices it needs.

    Raises:
      UsageError: the axes ask for more devices than there are, or two axes are -1.
    """
    devices = jax.devices() if devices is None else devices
    sizes = [getattr(settings, axis) for axis in AXES]
    if sizes.count(-1) > 1 or 0 in sizes:
        raise UsageError(f"mesh: at most one axis may be -1 and none 0, got {dict(zip(AXES, sizes, strict=True))}")
    fixed = math.prod(size for size in sizes if size > 0)
    if fixed > len(devices) or (-1 in sizes and len(devices) % fixed):
        raise UsageError(
            f"mesh: {dict(zip(AXES, sizes, strict=True))} does not fit the {len(devices)} devices here; "
            "their product must not exceed, and with -1 must divide, the number of devices"
        )
    sizes = [len(devices) // fixed if size == -1 else size for size in sizes]
    used = devices[: math.prod(sizes)]
    return jax.make_mesh(sizes, AXES, axis_types=(AxisType.Auto,) * len(AXES), devices=used)


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
