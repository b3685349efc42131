"""What several processes must hold and decide alike while they train on one mesh.

Plans, steps and metrics are the same everywhere, so most decisions are too. What only one process knows (a signal, a
clock) goes round with the metrics of a step, which each process reads one step late in any case.
"""

from __future__ import annotations

import enum
import functools
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ftcot_jax.errors import UsageError
from ftcot_jax.training.mesh import AXES, Rules, params_shardings
from ftcot_jax.training.processes import Processes


class Wish(enum.IntEnum):
    """What a process wants between two steps; of several wishes the highest is done."""

    GO_ON = 0
    SAVE = 1
    STOP = 2


class Ballot:
    """Turns the processes' wishes into one decision, the same before the same step everywhere.

    A process alone decides at once. Several learn of a wish with the step it was launched with.

    Args:
      mesh: what they train on.
      processes: who they are.

    Raises:
      UsageError: a process has no device in the mesh.
    """

    def __init__(self, mesh: Mesh, processes: Processes) -> None:
        self._several = processes.count > 1
        self._agreed = Wish.GO_ON
        self._over = NamedSharding(mesh, PartitionSpec(AXES))
        self._everywhere = jax.jit(lambda tree: tree, out_shardings=NamedSharding(mesh, PartitionSpec()))
        idle = set(range(jax.process_count())) - {device.process_index for device in mesh.devices.flat}
        if self._several and idle:
            raise UsageError(
                f"mesh: {dict(mesh.shape)} takes {mesh.size} of the {jax.device_count()} devices, and none of process "
                f"{min(idle)}; set one axis to -1, such as mesh.trial=-1 or mesh.data=-1"
            )

    def cast(self, metrics: Any, wish: Wish) -> tuple[Any, Any]:
        """Sends a step's metrics round with this process's wish; returns both, on the way, as all will read them."""
        if not self._several:
            return metrics, wish
        votes = jax.make_array_from_callback(
            (self._over.mesh.size,), self._over, lambda index: np.full(1, int(wish), np.int32)
        )
        sent: tuple[Any, Any] = self._everywhere((metrics, votes))
        return sent

    def count(self, votes: Any) -> None:
        """Reads the wishes that came with a step."""
        if self._several:
            self._agreed = max(self._agreed, Wish(int(np.max(votes))))

    def decision(self, wish: Wish) -> Wish:
        """What is done before the next step, given this process's own wish."""
        return self._agreed if self._several else wish

    def settle(self) -> None:
        """Forgets what was wished, once it is done."""
        self._agreed = Wish.GO_ON


def on_all(mesh: Mesh, tree: Any) -> Any:
    """Copies arrays, which every process has alike, whole to every device of the mesh."""
    everywhere = NamedSharding(mesh, PartitionSpec())
    if everywhere.is_fully_addressable:
        return jax.device_put(tree, everywhere)
    return jax.tree.map(lambda leaf: _place(leaf, everywhere), tree)


def spread(mesh: Mesh, rules: Rules, tree: Any) -> Any:
    """Lays one trial's state, which every process has alike, over the mesh as the sharding rules say."""
    return jax.tree.map(_place, tree, params_shardings(mesh, rules, tree))


def _place(leaf: Any, sharding: NamedSharding) -> jax.Array:
    host = np.asarray(leaf)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def to_leader(mesh: Mesh, tree: Any, processes: Processes) -> Any:
    """Brings arrays that lie over the mesh to the leader's memory, one at a time; None elsewhere. All must call it."""
    whole = _whole(mesh)

    def bring(leaf: jax.Array) -> np.ndarray | None:
        here = whole(leaf)
        return np.asarray(here.addressable_data(0)) if processes.lead else None

    brought = jax.tree.map(bring, tree)
    return brought if processes.lead else None


@functools.lru_cache(maxsize=8)
def _whole(mesh: Mesh) -> Any:
    return jax.jit(lambda leaf: leaf, out_shardings=NamedSharding(mesh, PartitionSpec()))
