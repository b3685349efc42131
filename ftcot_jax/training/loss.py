"""Cross-entropy on label tokens only, in chunks, never holding label tokens x vocabulary at once.

The vocabulary projection is most of a small student's arithmetic, and prompts and padding need none of it.
Gradients are formed in the forward pass, chunk by chunk, while the chunk's logits are still at hand: three
matrix products instead of the four that recomputing the logits would cost.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

CHUNK = 512
"""Label tokens that are projected at a time, at most.

The gradient of the projection is read and written once a chunk, which on an accelerator takes longer than a short one's
arithmetic; the logits of a longer one would leave the chip's own memory (benchmarks/LOG.md).
"""

_TILE = 8  # rows of a tile on a TPU


def label_loss(hidden_MxE: jax.Array, head_VxE: jax.Array, label_M: jax.Array, weight_M: jax.Array) -> jax.Array:
    """Returns the sum over label tokens of weight x cross-entropy, a float32 scalar.

    Args:
      hidden_MxE: (M, E) hidden state before each label token.
      head_VxE: (V, E) rows of the vocabulary projection.
      label_M: (M,) int32 label tokens.
      weight_M: (M,) float32, 0 where there is no label.
    """
    return _chunked(hidden_MxE, head_VxE, label_M, weight_M)


@jax.custom_vjp
def _chunked(hidden: jax.Array, head: jax.Array, label: jax.Array, weight: jax.Array) -> jax.Array:
    def add(total: jax.Array, chunk: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        logits, log_total = _logits(chunk[0], head)
        return total + _loss(logits, log_total, chunk[1], chunk[2]), None

    return jax.lax.scan(add, jnp.zeros((), jnp.float32), _split(hidden, label, weight))[0]


def _forward(
    hidden: jax.Array, head: jax.Array, label: jax.Array, weight: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    def add(
        carry: tuple[jax.Array, jax.Array], chunk: tuple[jax.Array, jax.Array, jax.Array]
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        total, head_grad = carry
        hidden_C, label_C, weight_C = chunk
        logits, log_total = _logits(hidden_C, head)
        total = total + _loss(logits, log_total, label_C, weight_C)
        error_CxV = jnp.exp(logits - log_total[:, None]) * weight_C[:, None]
        error_CxV = jnp.where(_is_label(label_C, logits), error_CxV - weight_C[:, None], error_CxV)
        error_CxV = error_CxV.astype(hidden_C.dtype)
        head_grad = head_grad + jnp.einsum("cv,ce->ve", error_CxV, hidden_C, preferred_element_type=jnp.float32)
        return (total, head_grad), jnp.einsum("cv,ve->ce", error_CxV, head).astype(hidden_C.dtype)

    start = (jnp.zeros((), jnp.float32), jnp.zeros(head.shape, jnp.float32))
    (total, head_grad), hidden_grad = jax.lax.scan(add, start, _split(hidden, label, weight))
    hidden_grad = hidden_grad.reshape(-1, hidden.shape[-1])[: label.size]
    return total, (hidden_grad, head_grad.astype(head.dtype))


def _backward(saved: tuple[jax.Array, jax.Array], cotangent: jax.Array) -> tuple[jax.Array, jax.Array, None, None]:
    hidden_grad, head_grad = saved
    return (
        hidden_grad * cotangent.astype(hidden_grad.dtype),
        head_grad * cotangent.astype(head_grad.dtype),
        None,
        None,
    )


_chunked.defvjp(_forward, _backward)


def _split(hidden: jax.Array, label: jax.Array, weight: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """In as few chunks of one size as there may be; what fills up the last one weighs nothing."""
    chunks = -(-label.size // CHUNK)
    size = _TILE * -(-label.size // (_TILE * chunks))
    fill = chunks * size - label.size
    hidden, label, weight = jnp.pad(hidden, ((0, fill), (0, 0))), jnp.pad(label, (0, fill)), jnp.pad(weight, (0, fill))
    return hidden.reshape(-1, size, hidden.shape[-1]), label.reshape(-1, size), weight.reshape(-1, size)


def _logits(hidden_CxE: jax.Array, head_VxE: jax.Array) -> tuple[jax.Array, jax.Array]:
    logits = jnp.einsum("ce,ve->cv", hidden_CxE, head_VxE, preferred_element_type=jnp.float32)
    return logits, jax.nn.logsumexp(logits, axis=-1)


@functools.partial(jax.named_call, name="label_loss")
def _loss(logits_CxV: jax.Array, log_total_C: jax.Array, label_C: jax.Array, weight_C: jax.Array) -> jax.Array:
    picked = jnp.sum(jnp.where(_is_label(label_C, logits_CxV), logits_CxV, 0), axis=-1)
    return jnp.sum((log_total_C - picked) * weight_C)


def _is_label(label_C: jax.Array, logits_CxV: jax.Array) -> jax.Array:
    """(C, V) bool. Compared and not indexed: where the vocabulary is spread over devices, each has its own part."""
    return jax.lax.broadcasted_iota(jnp.int32, logits_CxV.shape, 1) == label_C[:, None]
