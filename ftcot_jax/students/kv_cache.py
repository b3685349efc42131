"""The key-value cache of a decoder: fixed shape, one column a position, updated in place by a jitted loop."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


class KVCache(NamedTuple):
    """Keys and values of every layer, each (layers, B rows, K heads, S columns, D).

    Column s of a row holds the token at position s of that row's text. A query at position p reads the
    columns up to p, so a row is given to another text simply by writing from position 0 again.
    """

    keys: jax.Array
    values: jax.Array

    @classmethod
    def empty(
        cls, layers: int, rows: int, heads: int, length: int, head_dim: int, dtype: jnp.dtype
    ) -> KVCache:
        """Returns a cache of zeros for `rows` texts of up to `length` tokens."""
        shape = (layers, rows, heads, length, head_dim)
        return cls(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))

    def visible(self, positions_BxT: jax.Array) -> jax.Array:
        """Returns (B, 1, T, S) bool: the columns that a token at each position may read."""
        return (jnp.arange(self.keys.shape[3]) <= positions_BxT[..., None])[:, None]

    def write(
        self, layer: jax.Array, positions_BxT: jax.Array, key_BxTxKxD: jax.Array, value_BxTxKxD: jax.Array
    ) -> KVCache:
        """Puts a layer's new keys and values at their positions; positions of S and beyond are left out."""
        row = jnp.arange(positions_BxT.shape[0])[:, None]
        return KVCache(
            self.keys.at[layer, row, :, positions_BxT].set(key_BxTxKxD, mode="drop"),
            self.values.at[layer, row, :, positions_BxT].set(value_BxTxKxD, mode="drop"),
        )

    def fill(self, row_b: jax.Array, other: KVCache) -> KVCache:
        """Puts the b rows of a cache of as many columns or fewer into these rows; a row >= B is dropped."""
        columns = other.keys.shape[3]
        return KVCache(
            self.keys.at[:, row_b, :, :columns].set(other.keys, mode="drop"),
            self.values.at[:, row_b, :, :columns].set(other.values, mode="drop"),
        )

    def resize(self, row_b: jax.Array, length: int) -> KVCache:
        """Returns a cache of the chosen rows with `length` columns: cut, or filled up with zeros."""
        grow = max(length - self.keys.shape[3], 0)
        pad = ((0, 0), (0, 0), (0, 0), (0, grow), (0, 0))
        keys, values = (jnp.pad(part[:, row_b, :, :length], pad) for part in self)
        return KVCache(keys, values)

    def layer(self, layer: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns one layer's keys and values, each (B, K, S, D)."""
        return self.keys[layer], self.values[layer]
