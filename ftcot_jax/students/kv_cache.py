"""The key-value cache of a decoder: fixed shape, one column a position, updated in place by a jitted loop."""

from __future__ import annotations

from typing import NamedTuple, Protocol

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
    def empty(cls, layers: int, rows: int, heads: int, length: int, head_dim: int, dtype: jnp.dtype) -> KVCache:
        """Returns a cache of zeros for `rows` texts of up to `length` tokens."""
        shape = (layers, rows, heads, length, head_dim)
        return cls(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))

    @property
    def rows(self) -> int:
        return self.keys.shape[1]

    @property
    def columns(self) -> int:
        return self.keys.shape[3]

    def visible(self, positions_BxT: jax.Array) -> jax.Array:
        """Returns (B, 1, T, S) bool: the columns that a token at each position may read."""
        return (jnp.arange(self.columns) <= positions_BxT[..., None])[:, None]

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
        return KVCache(
            self.keys.at[:, row_b, :, : other.columns].set(other.keys, mode="drop"),
            self.values.at[:, row_b, :, : other.columns].set(other.values, mode="drop"),
        )

    def resize(self, row_b: jax.Array, length: int) -> KVCache:
        """Returns a cache of the chosen rows with `length` columns: cut, or filled up with zeros."""
        grow = max(length - self.columns, 0)
        pad = ((0, 0), (0, 0), (0, 0), (0, grow), (0, 0))
        keys, values = (jnp.pad(part[:, row_b, :, :length], pad) for part in self)
        return KVCache(keys, values)

    def layer(self, layer: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns one layer's keys and values, each (B, K, S, D)."""
        return self.keys[layer], self.values[layer]


class SourceCache(NamedTuple):
    """What the decoder of an encoder-decoder reads: its own past, and the source it writes from.

    Attributes:
      own: keys and values of the tokens written.
      source: keys and values of the encoded prompts.
      source_length: (B,) int32, columns of `source` that count.
    """

    own: KVCache
    source: KVCache
    source_length: jax.Array

    @property
    def rows(self) -> int:
        return self.own.rows

    @property
    def columns(self) -> int:
        return self.own.columns

    def source_visible(self) -> jax.Array:
        """Returns (B, 1, 1, S) bool: the source columns that count."""
        return (jnp.arange(self.source.columns) < self.source_length[:, None])[:, None, None]

    def fill(self, row_b: jax.Array, other: SourceCache) -> SourceCache:
        """Puts the b rows of another cache into these rows; a row >= B is dropped."""
        return SourceCache(
            self.own.fill(row_b, other.own),
            self.source.fill(row_b, other.source),
            self.source_length.at[row_b].set(other.source_length, mode="drop"),
        )

    def resize(self, row_b: jax.Array, length: int) -> SourceCache:
        """Returns a cache of the chosen rows with room for texts of `length` tokens."""
        source = KVCache(self.source.keys[:, row_b], self.source.values[:, row_b])
        return SourceCache(self.own.resize(row_b, length), source, self.source_length[row_b])


Cache = KVCache | SourceCache


class _Extends(Protocol):
    def empty_cache(self, rows: int, length: int, prompt_length: int) -> KVCache: ...

    def extend(self, cache: KVCache, tokens: jax.Array, positions: jax.Array) -> tuple[jax.Array, KVCache]: ...


def read_prompts(decoder: _Extends, tokens_BxT: jax.Array, length_B: jax.Array) -> KVCache:
    """Returns a decoder's cache of T columns that has read prompts, padded on the right, from position 0."""
    rows, width = tokens_BxT.shape
    column_T = jnp.arange(width)
    position_BxT = jnp.where(column_T < length_B[:, None], column_T, width)  # at `width`: not kept
    return decoder.extend(decoder.empty_cache(rows, width, 0), tokens_BxT, position_BxT)[1]
