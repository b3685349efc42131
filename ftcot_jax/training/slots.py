"""Putting trials into slots and taking them out, without recompiling for which slot or which trial."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding

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


def refill(slots: SlotState, slot: Any, one: SlotState) -> SlotState:
    """Puts one trial's state into slot number `slot`, in place; the others are untouched."""
    return refill_slot(slots, slot, one, _is_spread(slots))


@functools.partial(jax.jit, static_argnames="spread", donate_argnames="slots")
def refill_slot(slots: SlotState, slot: Any, one: SlotState, spread: bool) -> SlotState:
    """`refill`, told whether the slots are spread over devices."""

    def put(all_S: jax.Array, new: jax.Array) -> jax.Array:
        new = new.astype(all_S.dtype)
        return jnp.where(_is_slot(all_S, slot), new, all_S) if spread else all_S.at[slot].set(new)

    return jax.tree.map(put, slots, one)


@functools.partial(jax.jit, donate_argnames="slots")
def vacate(slots: SlotState, slot: Any) -> SlotState:
    """Marks slot number `slot` empty, so that steps leave it alone."""
    return slots._replace(live=slots.live & (jnp.arange(slots.live.size) != slot))


def take(slots: Any, slot: Any) -> Any:
    """Copies one trial's part out of any slot-stacked pytree."""
    return take_slot(slots, slot, _is_spread(slots))


@functools.partial(jax.jit, static_argnames="spread")
def take_slot(slots: Any, slot: Any, spread: bool) -> Any:
    """`take`, told whether the slots are spread over devices."""

    def pick(all_S: jax.Array) -> jax.Array:
        if not spread:
            return all_S[slot]
        bits = all_S if all_S.dtype == bool else all_S.view(f"uint{8 * all_S.dtype.itemsize}")
        alone = jnp.where(_is_slot(bits, slot), bits, jnp.zeros((), bits.dtype))
        # Of one slot's bits and zeros: the sum over devices is that slot's, bit for bit.
        return alone.any(0) if all_S.dtype == bool else alone.sum(0, dtype=bits.dtype).view(all_S.dtype)

    return jax.tree.map(pick, slots)


def _is_spread(slots: Any) -> bool:
    """Whether the slots lie on several devices.

    A slot's number is known only when the program runs, and an index into an axis that is spread over devices has XLA
    gather the whole of it on every device. So there every device looks at its own slots.
    """
    sharding = getattr(jax.tree.leaves(slots)[0], "sharding", None)
    return isinstance(sharding, NamedSharding) and dict(sharding.mesh.shape).get("trial", 1) > 1


def _is_slot(all_S: jax.Array, slot: Any) -> jax.Array:
    """(S, 1, ...) bool: which slot is that of this number."""
    return jnp.expand_dims(jnp.arange(all_S.shape[0]) == slot, range(1, all_S.ndim))
