"""Dropout that depends on what a token is, not on where it lies.

Whether an activation is dropped is a hash of the trial's seed, the step, the token's record and place in it,
the layer, the site and the feature. So packing, sharding, the number of slots and a resumed run cannot change
it. The hash is a few integer operations that XLA fuses into the multiplication; no mask is stored.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

_GOLDEN = 0x9E3779B9  # odd, so that consecutive numbers spread over all 32 bits


class Dropout(NamedTuple):
    """What decides a batch's dropout.

    Attributes:
      seed: () uint32, from `dropout_seed`.
      records: (R, L) int32, a number of the record each token belongs to, the same in every packing.
    """

    seed: jax.Array
    records: jax.Array


def dropout_seed(trial_seed: jax.Array | int, step: jax.Array | int) -> jax.Array:
    """Returns the () uint32 seed of one trial's step."""
    return _mix(_mix(jnp.asarray(trial_seed).astype(jnp.uint32)), step)


class Noise(NamedTuple):
    """One hash a token, (R, L) uint32, from which every site draws its own numbers."""

    token: jax.Array

    @classmethod
    def of(cls, dropout: Dropout | None, positions_RxL: jax.Array) -> Noise | None:
        """Returns the tokens' hashes; None, which drops nothing, without dropout."""
        return None if dropout is None else cls(_mix(_mix(dropout.seed, dropout.records), positions_RxL))

    def of_layer(self, number: jax.Array) -> Noise:
        """Returns the hashes of a layer, unlike those of any other."""
        return Noise(_mix(self.token, number + 1))

    def keep(self, rate: float, site: int, features: int) -> jax.Array:
        """Returns (R, L, features) float32: 0 where dropped, and what keeps the mean elsewhere."""
        return _keep(_mix(_mix(self.token, site)[..., None], jnp.arange(features)), rate)

    def keep_weights(self, rate: float, site: int, heads: int, key_positions_RxS: jax.Array) -> jax.Array:
        """Returns the same for attention weights, (R, heads, L, S), by the key's place in its text."""
        element_RxHxS = key_positions_RxS[:, None, :] * heads + np.arange(heads)[:, None]
        return _keep(_mix(_mix(self.token, site)[:, None, :, None], element_RxHxS[:, :, None, :]), rate)


def drop(x: jax.Array, noise: Noise | None, rate: float, site: int) -> jax.Array:
    """Drops features of (R, L, E) activations; the identity without noise or at rate 0."""
    if noise is None or rate == 0:
        return x
    return x * noise.keep(rate, site, x.shape[-1]).astype(x.dtype)


def drop_weights(
    noise: Noise | None, rate: float, site: int, heads: int, key_positions_RxS: jax.Array
) -> jax.Array | None:
    """Returns the factor on attention weights for `attend`; None without noise or at rate 0."""
    if noise is None or rate == 0:
        return None
    return noise.keep_weights(rate, site, heads, key_positions_RxS)


def _mix(state: jax.Array, number: jax.Array | int = 0) -> jax.Array:
    """Mixes a number into a 32-bit hash (the lowbias32 finaliser of C. Wellons' hash-prospector)."""
    x = state + jnp.asarray(number).astype(jnp.uint32) * jnp.uint32(_GOLDEN)
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def _keep(bits: jax.Array, rate: float) -> jax.Array:
    threshold = jnp.uint32(round(rate * 2**32))
    return jnp.where(bits >= threshold, jnp.float32(1 / (1 - rate)), jnp.float32(0))
