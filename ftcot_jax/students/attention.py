"""Masked attention in plain XLA, with grouped queries; the softmax is always float32."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


def attend(
    query_BxTxHxD: jax.Array,
    key_BxKxSxD: jax.Array,
    value_BxKxSxD: jax.Array,
    mask_Bx1xTxS: jax.Array,
    scale: float,
    bias_BxHxTxS: jax.Array | None = None,
    keep_BxHxTxS: jax.Array | None = None,
) -> jax.Array:
    """Softmax attention of T queries over S keys.

    Args:
      query_BxTxHxD: H query heads, H a multiple of K; head h reads key head h // (H / K).
      key_BxKxSxD: keys, heads before places so that each head's matrix is contiguous.
      value_BxKxSxD: values.
      mask_Bx1xTxS: True where a query may look. A query that may look nowhere returns a finite mean.
      scale: multiplies the scores.
      bias_BxHxTxS: float32, added to the scaled scores (relative positions).
      keep_BxHxTxS: float32, multiplies the weights after the softmax (dropout).

    Returns:
      (B, T, H, D) in the queries' dtype.
    """
    batch, length, heads, size = query_BxTxHxD.shape
    groups = key_BxKxSxD.shape[1]
    query = query_BxTxHxD.reshape(batch, length, groups, heads // groups, size)
    scores_BxKxGxTxS = scale * jnp.einsum("btkgd,bksd->bkgts", query, key_BxKxSxD, preferred_element_type=jnp.float32)
    if bias_BxHxTxS is not None:
        scores_BxKxGxTxS += bias_BxHxTxS.reshape(scores_BxKxGxTxS.shape)
    lowest = jnp.finfo(jnp.float32).min
    scores_BxKxGxTxS = jnp.where(mask_Bx1xTxS[:, :, None], scores_BxKxGxTxS, lowest)
    weights = jax.nn.softmax(scores_BxKxGxTxS, axis=-1)
    if keep_BxHxTxS is not None:
        weights *= keep_BxHxTxS.reshape(weights.shape)
    return jnp.einsum("bkgts,bksd->btkgd", weights.astype(query.dtype), value_BxKxSxD).reshape(query_BxTxHxD.shape)


def attend_after(
    prefix_key_KxPxD: jax.Array,
    prefix_value_KxPxD: jax.Array,
    query_BxTxHxD: jax.Array,
    key_BxKxSxD: jax.Array,
    value_BxKxSxD: jax.Array,
    mask_Bx1xTxS: jax.Array,
    scale: float,
) -> jax.Array:
    """`attend` where all queries also look at P places that every row has in common and that are kept once."""
    batch, length, heads, size = query_BxTxHxD.shape
    groups, places = prefix_key_KxPxD.shape[:2]
    query = query_BxTxHxD.reshape(batch, length, groups, heads // groups, size)
    common = jnp.einsum("btkgd,kpd->bkgtp", query, prefix_key_KxPxD, preferred_element_type=jnp.float32)
    own = jnp.einsum("btkgd,bksd->bkgts", query, key_BxKxSxD, preferred_element_type=jnp.float32)
    own = jnp.where(mask_Bx1xTxS[:, :, None], own, jnp.finfo(jnp.float32).min / max(scale, 1.0))
    weights = jax.nn.softmax(scale * jnp.concatenate([common, own], axis=-1), axis=-1).astype(query.dtype)
    mixed = jnp.einsum("bkgtp,kpd->btkgd", weights[..., :places], prefix_value_KxPxD)
    mixed += jnp.einsum("bkgts,bksd->btkgd", weights[..., places:], value_BxKxSxD)
    return mixed.reshape(query_BxTxHxD.shape)


def segment_mask(query_RxT: jax.Array, key_RxS: jax.Array) -> jax.Array:
    """Returns (R, 1, T, S) bool: queries see the keys of their own segment id.

    Padding (segment 0) sees padding, which keeps its softmax finite; nothing real sees it.
    """
    return (query_RxT[:, :, None] == key_RxS[:, None, :])[:, None]


def causal_mask(segments_RxL: jax.Array, reads_RxL: jax.Array | None = None) -> jax.Array:
    """Returns (R, 1, L, L) bool: a token sees earlier tokens of its row, and itself, in its own segment.

    Args:
      segments_RxL: segment ids.
      reads_RxL: another segment that each token sees besides its own, such as the question that several rationales
        share; None for none.
    """
    place_L = np.arange(segments_RxL.shape[1])
    seen = segment_mask(segments_RxL, segments_RxL)
    if reads_RxL is not None:
        seen |= segment_mask(reads_RxL, segments_RxL)
    return seen & (place_L[:, None] >= place_L[None, :])
