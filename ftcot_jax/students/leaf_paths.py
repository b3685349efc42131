"""Names of a pytree's leaves: the keys on the way to each, joined by slashes."""

from __future__ import annotations

from typing import Any

import jax


def by_path(tree: Any) -> dict[str, Any]:
    """Returns a pytree's leaves by their paths."""
    return {path_of(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def path_of(path: tuple[Any, ...]) -> str:
    """A key path of jax as text."""
    return jax.tree_util.keystr(path, simple=True, separator="/")
