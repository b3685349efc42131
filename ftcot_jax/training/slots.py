"""Putting trials into slots and taking them out, without recompiling for which slot or which trial."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from ftcot_jax.training.mesh import Rules, state_shardings
from ftcot_jax.training.step import SlotState


def empty_slots(one: SlotState, slots: int, mesh: Mesh, rules: Rules) -> SlotState:
    """Returns `slots` empty slots, sharded over the mesh, for trials whose state looks like `one`.

    Args:
      one: the state, or its shapes, of one trial.
      slots: S, the leading axis of every leaf returned; all have ``live=False``.
      mesh: where they live.
      rules: the student family's sharding rules.
    """
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((slots, *leaf.shape), leaf.dtype), one)
    make = functools.partial(jax.tree.map, lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    return jax.jit(make, out_shardings=state_shardings(mesh, rules, shapes))()


@functools.partial(jax.jit, donate_argnames="slots")
def refill(slots: SlotState, slot: Any, one: SlotState) -> SlotState:
    """Puts one trial's state into slot number `slot`; the others are untouched."""
    return jax.tree.map(lambda all_S, new: all_S.at[slot].set(new.astype(all_S.dtype)), slots, one)


@functools.partial(jax.jit, donate_argnames="slots")
def vacate(slots: SlotState, slot: Any) -> SlotState:
    """Marks slot number `slot` empty, so that steps leave it alone."""
    return slots._replace(live=slots.live.at[slot].set(False))


@jax.jit
def take(slots: Any, slot: Any) -> Any:
    """Copies one trial's part out of any slot-stacked pytree."""
    return jax.tree.map(lambda all_S: all_S[slot], slots)
