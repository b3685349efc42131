"""Choosing the next token: the likeliest, or a draw by temperature, top-k and top-p.

A draw depends on the seed, the prompt, the sample's number and the token's place, and on nothing else in the
batch, so a sample can be had again whatever it is batched with.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from pydantic import BaseModel, ConfigDict, Field


class Sampling(BaseModel):
    """How tokens are drawn; the filters apply in the order temperature, top-k, top-p, as in transformers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: float = Field(1.0, gt=0, description="Divides the logits; below 1 the likely get likelier.")
    top_k: int | None = Field(None, ge=1, description="Draw from this many likeliest tokens only.")
    top_p: float | None = Field(
        None, gt=0, le=1, description="Draw from the fewest tokens that hold this share of the probability."
    )
    samples: int = Field(1, ge=1, description="Texts for each prompt.")
    seed: int = Field(0, ge=0, lt=2**32, description="Another seed gives other samples.")


def sample_seed(sampling: Sampling, prompt: Sequence[int], sample: int) -> int:
    """Returns the 32-bit seed of one sample of a prompt, by the prompt's tokens."""
    words = np.asarray([sampling.seed, sample, *prompt], np.uint32)
    return zlib.crc32(words.astype("<u4").tobytes())


def choose(logits_BxV: jax.Array, sampling: Sampling | None, seed_B: jax.Array, position_B: jax.Array) -> jax.Array:
    """Returns the (B,) int32 next tokens.

    Args:
      logits_BxV: (B, V) float32.
      sampling: how to draw; None takes the likeliest token, of equals the first.
      seed_B: (B,) uint32, from `sample_seed`.
      position_B: (B,) int32, the place of the token that leads to the draw.
    """
    if sampling is None:
        return jnp.argmax(logits_BxV, axis=-1).astype(jnp.int32)
    logits_BxV = restrict(logits_BxV, sampling)

    def draw(seed: jax.Array, position: jax.Array, logits_V: jax.Array) -> jax.Array:
        return jax.random.categorical(jax.random.fold_in(jax.random.key(seed), position), logits_V)

    return jax.vmap(draw)(seed_B, position_B, logits_BxV).astype(jnp.int32)


def restrict(logits_BxV: jax.Array, sampling: Sampling) -> jax.Array:
    """Returns the logits of the distribution drawn from: tempered, and -inf for what is left out."""
    logits_BxV = logits_BxV / sampling.temperature
    vocabulary = logits_BxV.shape[-1]
    if sampling.top_k is not None and sampling.top_k < vocabulary:
        least = jax.lax.top_k(logits_BxV, sampling.top_k)[0][:, -1:]
        logits_BxV = jnp.where(logits_BxV < least, -jnp.inf, logits_BxV)
    if sampling.top_p is not None and sampling.top_p < 1:
        falling = jnp.sort(logits_BxV, axis=-1, descending=True)
        share = jax.nn.softmax(falling, axis=-1)
        kept = jnp.cumsum(share, axis=-1) - share < sampling.top_p  # of those before it
        least = jnp.min(jnp.where(kept, falling, jnp.inf), axis=-1, keepdims=True)
        logits_BxV = jnp.where(logits_BxV < least, -jnp.inf, logits_BxV)
    return logits_BxV
