"""The key-value cache of a decoder: fixed shape, one column a position, updated in place by a jitted loop.

Each layer's keys and values are arrays of their own: out of one array for all layers, a compiled loop would copy a
layer's share before every product.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp

from ftcot_jax.students.attention import attend, attend_after


class LayerKV(NamedTuple):
    """One layer's keys and values, each (B rows, K heads, S columns, D); of a shared prefix (K, S, D)."""

    keys: jax.Array
    values: jax.Array


class KVCache(NamedTuple):
    """Keys and values of every layer.

    Column s of a row holds the token at position P + s of that row's text, where P tokens, the `prefix`, are the
    same in all rows and kept once. A query at position p reads the prefix and the columns up to p - P, so a row is
    given to another text simply by writing from position P again.

    Attributes:
      layers: the rows' own.
      prefix: what all rows have read before, each (K, P, D); empty where P is 0.
    """

    layers: tuple[LayerKV, ...]
    prefix: tuple[LayerKV, ...] = ()

    @classmethod
    def empty(cls, layers: int, rows: int, heads: int, length: int, head_dim: int, dtype: jnp.dtype) -> KVCache:
        """Returns a cache of zeros for `rows` texts of up to `length` tokens."""
        shape = (rows, heads, length, head_dim)
        return cls(tuple(LayerKV(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype)) for _ in range(layers)))

    @property
    def rows(self) -> int:
        return self.layers[0].keys.shape[0]

    @property
    def columns(self) -> int:
        return self.layers[0].keys.shape[2]

    @property
    def start(self) -> int:
        """Position of the first column: how many tokens the prefix has."""
        return self.prefix[0].keys.shape[1] if self.prefix else 0

    def attend(
        self,
        layer: int,
        query_BxTxHxD: jax.Array,
        key_BxTxKxD: jax.Array,
        value_BxTxKxD: jax.Array,
        positions_BxT: jax.Array,
        scale: float,
        bias_BxHxTxS: jax.Array | None = None,
    ) -> tuple[jax.Array, LayerKV]:
        """Puts a layer's new keys and values at their positions and attends to all up to each query's own.

        Returns:
          The mixed values (B, T, H, D), and the layer with the new columns. Positions beyond the last column are
          left out of it. A bias is for a cache without prefix.
        """
        column_BxT = positions_BxT - self.start
        grown = LayerKV(
            _put(self.layers[layer].keys, column_BxT, key_BxTxKxD),
            _put(self.layers[layer].values, column_BxT, value_BxTxKxD),
        )
        visible_Bx1xTxS = (jnp.arange(self.columns) <= column_BxT[..., None])[:, None]
        if self.prefix:
            assert bias_BxHxTxS is None
            return attend_after(*self.prefix[layer], query_BxTxHxD, *grown, visible_Bx1xTxS, scale), grown
        return attend(query_BxTxHxD, *grown, visible_Bx1xTxS, scale, bias_BxHxTxS), grown

    def fill(self, row_b: jax.Array, other: KVCache) -> KVCache:
        """Puts the b rows of a cache of as many columns or fewer into these rows; a row >= B is dropped."""
        width = other.columns

        def put(mine: jax.Array, new: jax.Array) -> jax.Array:
            return mine.at[row_b, :, :width].set(new, mode="drop")

        return self._replace(layers=jax.tree.map(put, self.layers, other.layers))

    def copy_prompts(self, from_b: jax.Array, to_b: jax.Array, width: int) -> KVCache:
        """Copies the first `width` columns of rows to other rows; a row `to` >= B is dropped."""

        def copy(part: jax.Array) -> jax.Array:
            return part.at[to_b, :, :width].set(part[from_b, :, :width], mode="drop")

        return self._replace(layers=jax.tree.map(copy, self.layers))

    def resize(self, row_b: jax.Array, length: int) -> KVCache:
        """Returns a cache of the chosen rows with `length` columns: cut, or filled up with zeros."""
        pad = ((0, 0), (0, 0), (0, max(length - self.columns, 0)), (0, 0))
        return self._replace(layers=jax.tree.map(lambda part: jnp.pad(part[row_b, :, :length], pad), self.layers))

    def as_prefix(self) -> tuple[LayerKV, ...]:
        """The first row, every column of which has been read, as the prefix of other caches."""
        return tuple(LayerKV(layer.keys[0], layer.values[0]) for layer in self.layers)


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

    def copy_prompts(self, from_b: jax.Array, to_b: jax.Array, width: int) -> SourceCache:
        """Copies the sources of rows, of `width` columns at most, to other rows; a row `to` >= B is dropped."""
        length = self.source_length.at[to_b].set(self.source_length[from_b], mode="drop")
        return self._replace(source=self.source.copy_prompts(from_b, to_b, width), source_length=length)

    def resize(self, row_b: jax.Array, length: int) -> SourceCache:
        """Returns a cache of the chosen rows with room for texts of `length` tokens."""
        source = self.source.resize(row_b, self.source.columns)
        return SourceCache(self.own.resize(row_b, length), source, self.source_length[row_b])


Cache = KVCache | SourceCache


class _Extends(Protocol):
    def empty_cache(self, rows: int, length: int, prompt_length: int) -> KVCache: ...

    def extend(self, cache: KVCache, tokens: jax.Array, positions: jax.Array) -> tuple[jax.Array, KVCache]: ...


def read_prompts(decoder: _Extends, tokens_BxT: jax.Array, length_B: jax.Array, prefix: tuple[LayerKV, ...]) -> KVCache:
    """Returns a decoder's cache of T columns that has read prompts, padded on the right, after the prefix."""
    rows, width = tokens_BxT.shape
    cache = decoder.empty_cache(rows, width, 0)._replace(prefix=prefix)
    column_T = jnp.arange(width)
    position_BxT = cache.start + jnp.where(column_T < length_B[:, None], column_T, width)  # at `width`: not kept
    return decoder.extend(cache, tokens_BxT, position_BxT)[1]


def _put(part_BxKxSxD: jax.Array, column_BxT: jax.Array, new_BxTxKxD: jax.Array) -> jax.Array:
    """Writes each row's new columns. Row by row, so that a cache whose rows are on many devices stays there."""

    def put(part_KxSxD: jax.Array, column_T: jax.Array, new_TxKxD: jax.Array) -> jax.Array:
        return part_KxSxD.at[:, column_T].set(new_TxKxD.swapaxes(0, 1), mode="drop")

    return jax.vmap(put)(part_BxKxSxD, column_BxT, new_BxTxKxD)
