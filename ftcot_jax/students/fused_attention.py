"""Attention over packed rows by the kernel the user chose: XLA's, cuDNN's on a GPU, splash attention on a TPU.

None stands in for another: where the chosen one cannot run, the user is told. Generation reads its cache through
XLA in every case.
"""

from __future__ import annotations

import math
from typing import Literal

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as splash_mask

from ftcot_jax.errors import UsageError
from ftcot_jax.students.attention import attend, causal_mask
from ftcot_jax.students.family import Compute, Config, Kind

Attention = Literal["xla", "cudnn", "splash"]

# XLA's rows above this many tokens are computed in blocks of queries, for up to half of their scores are masked.
_LONG, _BLOCK = 512, 256
_LANES = 128  # splash attention's rows are a multiple of this, and its blocks
_BLOCKS = (512, 384, 256, 128)
_PLATFORMS = {"cudnn": ("gpu", "cuda"), "splash": ("tpu",)}


def attend_row(
    attention: str,
    query_RxLxHxD: jax.Array,
    key_RxLxKxD: jax.Array,
    value_RxLxKxD: jax.Array,
    segments_RxL: jax.Array,
    scale: float,
    keep_RxHxLxL: jax.Array | None = None,
    reads_RxL: jax.Array | None = None,
) -> jax.Array:
    """Causal attention of packed rows: a token sees itself and earlier tokens of its own segment.

    Args:
      attention: the kernel.
      query_RxLxHxD: H query heads, a multiple of K.
      key_RxLxKxD: keys.
      value_RxLxKxD: values.
      segments_RxL: segment ids, 0 for padding.
      scale: multiplies the scores.
      keep_RxHxLxL: multiplies the weights after the softmax (dropout); only "xla" takes it.
      reads_RxL: a segment that each token sees besides its own; "splash" does not take it.

    Returns:
      (R, L, H, D) in the queries' dtype.
    """
    if attention == "cudnn":
        mask = causal_mask(segments_RxL, reads_RxL)
        return jax.nn.dot_product_attention(
            query_RxLxHxD, key_RxLxKxD, value_RxLxKxD, mask=mask, scale=scale, implementation="cudnn"
        )
    if attention == "splash":
        require_shared(attention, reads_RxL is not None)
        return splash_rows(query_RxLxHxD, key_RxLxKxD, value_RxLxKxD, segments_RxL, scale)
    key, value = key_RxLxKxD.swapaxes(1, 2), value_RxLxKxD.swapaxes(1, 2)
    mask, mixed = causal_mask(segments_RxL, reads_RxL), []
    for begin, end in _query_blocks(query_RxLxHxD.shape[1]):  # what is after a block's last query is never computed
        keep = None if keep_RxHxLxL is None else keep_RxHxLxL[:, :, begin:end, :end]
        seen = mask[:, :, begin:end, :end]
        mixed.append(attend(query_RxLxHxD[:, begin:end], key[:, :, :end], value[:, :, :end], seen, scale, None, keep))
    return jnp.concatenate(mixed, axis=1)


def _query_blocks(length: int) -> list[tuple[int, int]]:
    """The places of a row in blocks whose queries are computed together; a row that is not long is one."""
    size = length if length <= _LONG else _BLOCK
    return [(begin, min(begin + size, length)) for begin in range(0, length, size)]


def splash_rows(
    query_RxLxHxD: jax.Array,
    key_RxLxKxD: jax.Array,
    value_RxLxKxD: jax.Array,
    segments_RxL: jax.Array,
    scale: float,
    interpret: bool = False,
) -> jax.Array:
    """`attend_row` by JAX's splash attention kernel; `interpret` runs it step by step on any platform."""
    length, heads = query_RxLxHxD.shape[1:3]
    padded = math.ceil(length / _LANES) * _LANES

    def by_head(x_RxLxHxD: jax.Array) -> jax.Array:
        pad = ((0, 0), (0, padded - length), (0, 0), (0, 0))
        return jnp.pad(x_RxLxHxD, pad).swapaxes(1, 2)

    block = next(size for size in _BLOCKS if padded % size == 0)
    sizes = splash.BlockSizes(
        block_q=block,
        block_kv=block,
        block_kv_compute=block,
        block_q_dkv=block,
        block_kv_dkv=block,
        block_kv_dkv_compute=block,
        block_q_dq=block,
        block_kv_dq=block,
    )
    mask = splash_mask.MultiHeadMask([splash_mask.CausalMask((padded, padded))] * heads)
    kernel = splash.make_splash_mha(mask=mask, block_sizes=sizes, head_shards=1, q_seq_shards=1, interpret=interpret)
    segments = jnp.pad(segments_RxL, ((0, 0), (0, padded - length)))
    heads_first = by_head(query_RxLxHxD * scale), by_head(key_RxLxKxD), by_head(value_RxLxKxD)
    mixed_RxHxLxD = jax.vmap(kernel)(*heads_first, splash.SegmentIds(segments, segments))
    return mixed_RxHxLxD.swapaxes(1, 2)[:, :length].astype(query_RxLxHxD.dtype)


def require_attention(compute: Compute, config: Config, kind: Kind) -> None:
    """Raises UsageError if the chosen kernel cannot compute this student."""
    name = compute.attention
    if name == "xla":
        return
    if kind == "encoder_decoder":
        raise UsageError(
            f"student.attention: {name} takes no learned bias on the scores, which {config.model_type} has; use xla"
        )
    rate = getattr(config, "attn_pdrop", getattr(config, "attention_dropout", 0.0)) or 0.0
    if rate and compute.dropout:
        raise UsageError(
            f"student.attention: {name} cannot drop attention weights, and the config's rate is {rate}; "
            "set student.dropout=false or student.attention=xla"
        )
    if name == "cudnn" and compute.dtype != "bfloat16":
        raise UsageError(
            f"student.attention: cudnn computes in bfloat16; set student.dtype=bfloat16, not {compute.dtype}"
        )


def require_shared(attention: str, shared: bool) -> None:
    """Raises UsageError if the kernel cannot let rationales read a question that they share."""
    if shared and attention == "splash":
        raise UsageError(
            "train.batch.share_questions: splash attention keeps segments wholly apart, so no rationale could read "
            "a shared question; set student.attention=xla or share_questions=false"
        )


def require_platform(attention: str, platform: str, devices: int) -> None:
    """Raises UsageError if the chosen kernel does not run on these devices.

    Args:
      attention: the kernel.
      platform: of the devices, as jax names it.
      devices: how many the mesh has.
    """
    wanted = _PLATFORMS.get(attention)
    if wanted is not None and platform not in wanted:
        raise UsageError(f"student.attention: {attention} runs on a {wanted[0]}, and this is a {platform}; use xla")
    if attention == "splash" and devices > 1:
        raise UsageError(
            f"student.attention: splash runs in programs for one device, and the mesh has {devices}; use xla"
        )
