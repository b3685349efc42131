"""Params in the layout that a loop writes text with: each layer's weights arrays of their own.

Out of stacked weights, a loop copies a layer's share before every product, which at a token a row costs more than
the product. Training keeps the stack: there one layer's product is large, and a scan compiles faster.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

Params = Any  # nested dict of arrays

_STACK = "layers"
_STAYS = "encoder"  # runs once a prompt, over many tokens at a time
_MATRICES = ("kernel", "a", "b")  # computed with in the activations' dtype only


def layers_apart(params: Params, dtype: jnp.dtype) -> Params:
    """Returns nested params with each stack of layers as {number: one layer's params}, matrices cast to `dtype`."""
    out = {}
    for name, child in params.items():
        if name == _STACK and (leaves := jax.tree.leaves(child)):
            number = range(leaves[0].shape[0])
            out[name] = {at: jax.tree.map(lambda leaf: leaf[at], _cast(child, dtype)) for at in number}  # noqa: B023
        else:
            out[name] = layers_apart(child, dtype) if isinstance(child, Mapping) and name != _STAYS else child
    return out


def are_apart(params: Params) -> bool:
    """Whether the params are in this layout."""
    return any(
        0 in child if name == _STACK else isinstance(child, Mapping) and name != _STAYS and are_apart(child)
        for name, child in params.items()
    )


def _cast(params: Params, dtype: jnp.dtype) -> Params:
    def cast(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        return leaf.astype(dtype) if path[-1].key in _MATRICES else leaf

    return jax.tree_util.tree_map_with_path(cast, params)
