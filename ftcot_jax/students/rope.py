"""Rotary positions (arXiv:2104.09864) and the ways checkpoints stretch them to longer contexts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

ROPE_TYPES = ("default", "linear", "llama3", "yarn")


class Rotation(NamedTuple):
    """Cosine and sine of every pair's angle, each (B, T, D / 2) float32."""

    cos: jax.Array
    sin: jax.Array


def inverse_frequencies(rope: Mapping[str, Any], head_dim: int) -> tuple[np.ndarray, float]:
    """Returns (D / 2,) float32 radians a position for each pair, and the factor on cosine and sine.

    Args:
      rope: `rope_parameters` of a transformers config; its `rope_type` is one of `ROPE_TYPES`.
      head_dim: D, of which neighbours D / 2 apart turn together.
    """
    plain = 1.0 / rope["rope_theta"] ** (np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim))
    kind = rope["rope_type"]
    if kind == "linear":
        return (plain / rope["factor"]).astype(np.float32), 1.0
    if kind == "llama3":
        return _llama3(plain, rope).astype(np.float32), 1.0
    if kind == "yarn":
        return _yarn(plain, rope, head_dim).astype(np.float32), _yarn_factor(rope)
    return plain.astype(np.float32), 1.0


def rotation(positions_BxT: jax.Array, frequencies: np.ndarray, factor: float) -> Rotation:
    """Returns the rotation at each position, once for all layers."""
    angle = positions_BxT[..., None].astype(jnp.float32) * frequencies
    return Rotation(jnp.cos(angle) * factor, jnp.sin(angle) * factor)


def rotate(x_BxTxHxD: jax.Array, by: Rotation) -> jax.Array:
    """Turns each pair (d, d + D / 2) of every head by its position's angle."""
    first, second = jnp.split(x_BxTxHxD.astype(jnp.float32), 2, axis=-1)
    cos, sin = by.cos[:, :, None], by.sin[:, :, None]
    turned = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return turned.astype(x_BxTxHxD.dtype)


def _llama3(plain: np.ndarray, rope: Mapping[str, Any]) -> np.ndarray:
    """Llama 3.1: long wavelengths are stretched, short ones kept, those between blended."""
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    turns = rope["original_max_position_embeddings"] * plain / (2 * math.pi)
    keep = np.clip((turns - low) / (high - low), 0, 1)
    return plain * (keep + (1 - keep) / rope["factor"])


def _yarn(plain: np.ndarray, rope: Mapping[str, Any], head_dim: int) -> np.ndarray:
    """YaRN (arXiv:2309.00071): pairs that turn often are kept, those that turn seldom are stretched."""
    context, base = rope["original_max_position_embeddings"], rope["rope_theta"]

    def pair_that_turns(times: float) -> float:
        return head_dim * math.log(context / (times * 2 * math.pi)) / (2 * math.log(base))

    first = pair_that_turns(rope.get("beta_fast") or 32)
    last = pair_that_turns(rope.get("beta_slow") or 1)
    if rope.get("truncate", True):
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, head_dim - 1)
    span = last - first or 0.001
    stretch = np.clip((np.arange(head_dim // 2, dtype=np.float32) - first) / span, 0, 1)
    return plain * ((1 - stretch) + stretch / rope["factor"])


def _yarn_factor(rope: Mapping[str, Any]) -> float:
    if rope.get("attention_factor") is not None:
        return rope["attention_factor"]

    def magnitude(weight: float) -> float:
        return 1.0 if rope["factor"] <= 1 else 0.1 * weight * math.log(rope["factor"]) + 1.0

    if rope.get("mscale") and rope.get("mscale_all_dim"):
        return magnitude(rope["mscale"]) / magnitude(rope["mscale_all_dim"])
    return magnitude(1.0)
