"""Where generation's caches live: slots over the mesh's `trial`, rows over `data` and `fsdp`, heads over `tensor`."""

from __future__ import annotations

import math
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ftcot_jax.training.mesh import AXES

_ROWS = ("data", "fsdp")


def mesh_of(params: Any) -> Mesh | None:
    """The mesh that sharded params live on; None for params on one device."""
    for leaf in jax.tree.leaves(params):
        sharding = getattr(leaf, "sharding", None)
        if isinstance(sharding, NamedSharding) and sharding.mesh.axis_names == AXES and sharding.mesh.size > 1:
            mesh = sharding.mesh
            assert isinstance(mesh, Mesh)
            return mesh
    return None


def row_shares(mesh: Mesh | None) -> int:
    """How many devices the rows of a slot are spread over."""
    return 1 if mesh is None else mesh.shape["data"] * mesh.shape["fsdp"]


def slot_shares(mesh: Mesh | None, slots: int) -> int:
    """Into how many parts the slots are cut over the mesh, each on devices of its own."""
    shares = 1 if mesh is None else mesh.shape["trial"]
    return shares if slots % shares == 0 else 1


def place(mesh: Mesh | None, cache: Any) -> Any:
    """Inside a compiled function: pins every array of a cache to its place. An axis that does not divide is whole."""
    if mesh is None:
        return cache

    def pin(leaf: jax.Array) -> jax.Array:
        wanted: tuple[Any, ...] = {
            2: ("trial", _ROWS),  # a source's lengths
            4: ("trial", "tensor"),  # a prefix: slots, heads, columns, D
            5: ("trial", _ROWS, "tensor"),  # slots, rows, heads, columns, D
        }[leaf.ndim]
        fitting = [
            axis
            if size % math.prod(mesh.shape[name] for name in ((axis,) if isinstance(axis, str) else axis)) == 0
            else None
            for axis, size in zip(wanted, leaf.shape, strict=False)
        ]
        return jax.lax.with_sharding_constraint(leaf, NamedSharding(mesh, PartitionSpec(*fitting)))

    return jax.tree.map(pin, cache)


def replicate(mesh: Mesh | None, array: jax.Array) -> jax.Array:
    """Inside a compiled function: puts the whole array on every device, so that every host can read it."""
    return array if mesh is None else jax.lax.with_sharding_constraint(array, NamedSharding(mesh, PartitionSpec()))
