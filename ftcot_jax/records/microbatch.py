"""Dividing a packed batch into microbatches, so that only one of them has activations at a time.

A row lies whole in one microbatch, with all that its records' tokens attend to. Which rows lie together is the
planner's choice (`packing.deal_rows`); here they only change places.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from ftcot_jax.records.batch import PackedBatch


def divide(batch: PackedBatch, microbatches: int) -> PackedBatch:
    """Returns the batch with a leading microbatch axis on every leaf: row r goes to microbatch r % K, as row r // K.

    Pure and traceable.

    Args:
      batch: R rows of L tokens with room for M labels, both multiples of K, and no more than M / K labels in the
        rows of any one microbatch.
      microbatches: K.

    Returns:
      (K, R / K, L) rows and (K, M / K) labels, `label_at` counting from the microbatch's first token.
    """
    count = microbatches
    if count == 1:
        return jax.tree.map(lambda leaf: leaf[None], batch)

    def deal(leaf: jax.Array) -> jax.Array:
        return jnp.moveaxis(leaf.reshape(leaf.shape[0] // count, count, *leaf.shape[1:]), 1, 0)

    length = batch.text.tokens.shape[1]
    room = batch.label.shape[0] // count
    row_M, column_M = batch.label_at // length, batch.label_at % length
    used_M = batch.label_weight > 0
    own_MxK = used_M[:, None] & (row_M[:, None] % count == jnp.arange(count))
    before_MxK = jnp.cumsum(own_MxK, axis=0) - own_MxK
    slot_MxK = jnp.where(own_MxK, jnp.arange(count) * room + before_MxK, count * room)
    slot_M = slot_MxK.min(1)  # of its own microbatch; unused room goes past the end, where it is dropped

    def collect(value_M: Any) -> jax.Array:
        empty = jnp.zeros(count * room, value_M.dtype)
        return empty.at[slot_M].set(value_M, mode="drop").reshape(count, room)

    text, source = jax.tree.map(deal, (batch.text, batch.source))
    at_M = row_M // count * length + column_M
    return PackedBatch(text, source, collect(at_M), collect(batch.label), collect(batch.label_weight))
