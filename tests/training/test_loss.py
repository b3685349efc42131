"""The chunked loss equals the dense one, forward and backward."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ftcot_jax.training.loss import CHUNK, label_loss


def dense_loss(hidden: jax.Array, head: jax.Array, label: jax.Array, weight: jax.Array) -> jax.Array:
    picked = jnp.take_along_axis(jax.nn.log_softmax(hidden @ head.T), label[:, None], axis=1)[:, 0]
    return -(picked * weight).sum()


@pytest.mark.parametrize("count", [10, CHUNK, CHUNK + 1, 2 * CHUNK + 64])
@pytest.mark.parametrize("vocabulary", [11, 257])
def test_equals_dense_forward_and_backward(count: int, vocabulary: int) -> None:
    rng = np.random.default_rng(0)
    hidden = jnp.asarray(rng.normal(size=(count, 16)), jnp.float32)
    head = jnp.asarray(rng.normal(size=(vocabulary, 16)), jnp.float32)
    label = jnp.asarray(rng.integers(0, vocabulary, count), jnp.int32)
    weight = jnp.asarray(np.arange(count) < count - 9, jnp.float32)
    ours = jax.value_and_grad(lambda *x: label_loss(*x, label, weight) / weight.sum(), (0, 1))(hidden, head)
    dense = jax.value_and_grad(lambda *x: dense_loss(*x, label, weight) / weight.sum(), (0, 1))(hidden, head)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-6), ours, dense)
    plain = label_loss(hidden, head, label, weight) / weight.sum()
    np.testing.assert_allclose(plain, dense[0], rtol=1e-6)


def test_unused_room_gives_no_gradient() -> None:
    hidden, head = jnp.ones((CHUNK, 4)), jnp.arange(12.0).reshape(3, 4)
    weight = (jnp.arange(CHUNK) < 2).astype(jnp.float32)
    gradient = jax.grad(label_loss)(hidden, head, jnp.zeros(CHUNK, jnp.int32), weight)
    assert float(jnp.abs(gradient[:2]).min()) > 0
    assert float(jnp.abs(gradient[2:]).max()) == 0


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_memory_stays_below_label_tokens_times_vocabulary(dtype: jnp.dtype) -> None:
    """By the compiler's account, forward and backward together; the dense loss needs several times as much."""
    tokens, vocabulary, width = 8 * CHUNK, 50257, 64
    label, weight = jnp.zeros(tokens, jnp.int32), jnp.ones(tokens)
    shapes = jax.ShapeDtypeStruct((tokens, width), dtype), jax.ShapeDtypeStruct((vocabulary, width), dtype)

    def temporary_bytes(loss: Any) -> int:
        gradient = jax.value_and_grad(lambda hidden, head: loss(hidden, head, label, weight), (0, 1))
        return jax.jit(gradient).lower(*shapes).compile().memory_analysis().temp_size_in_bytes

    table = 4 * tokens * vocabulary
    assert temporary_bytes(label_loss) < 0.4 * table
    assert temporary_bytes(dense_loss) > table
