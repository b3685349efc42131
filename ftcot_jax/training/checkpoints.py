"""Checkpoints of a pool of slots: the only module that knows Orbax.

A checkpoint is the slot-stacked train state and a small JSON note (which trial is in which slot). It is
written to a temporary name and renamed by Orbax; one that is damaged all the same is skipped with a warning,
and the one before it is used.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any

import jax
from etils import epath
from orbax.checkpoint import v1 as ocp

from ftcot_jax.errors import FtcotError
from ftcot_jax.training.mesh import Rules, state_shardings
from ftcot_jax.training.step import SlotState


class Checkpoints:
    """The checkpoints of one pool, the last two of which are kept.

    Args:
      folder: where they live, local or remote.
      architecture: identifies the students' shapes; a checkpoint of another is refused.
      say: receives warnings.
    """

    def __init__(self, folder: epath.Path, architecture: str, say: Callable[[str], None]) -> None:
        self._folder = folder
        self._architecture = architecture
        self._say = say
        keep = ocp.training.preservation_policies.LatestN(2)
        self._checkpointer = ocp.training.Checkpointer(folder, preservation_policy=keep, cleanup_tmp_directories=True)

    def save(self, tick: int, state: SlotState, note: dict[str, Any]) -> None:
        """Saves the state after `tick` pool steps. A full disk is reported and the run goes on."""
        custom = {"architecture": self._architecture, "note": note}
        try:
            response = self._checkpointer.save_checkpointables_async(
                tick, {"state": state}, force=True, overwrite=True, custom_metadata=custom
            )
            # On a CPU the saver reads the very buffers that the next step is about to overwrite.
            if response is not None and jax.default_backend() == "cpu":
                response.result()
        except (OSError, ValueError) as error:
            self._report_full_disk(error)

    def restore(
        self, like: SlotState, mesh: jax.sharding.Mesh, rules: Rules
    ) -> tuple[int, SlotState, dict[str, Any]] | None:
        """Returns (tick, state, note) of the newest readable checkpoint, or None.

        Args:
          like: the state, or its shapes, of one trial; the number of slots is the checkpoint's own.
          mesh: where the restored state shall live, whatever mesh saved it.
          rules: the student family's sharding rules.

        Raises:
          FtcotError: the newest checkpoint belongs to another architecture.
        """
        for saved in sorted(self._checkpointer.checkpoints, key=lambda checkpoint: -checkpoint.step):
            try:
                custom = self._checkpointer.metadata(saved.step).custom_metadata
                architecture, note = custom["architecture"], custom["note"]
            except Exception as error:  # Orbax raises its own and the file system's kinds for a damaged folder
                self._warn(saved.step, error)
                continue
            if architecture != self._architecture:
                raise FtcotError(
                    f"{self._folder / str(saved.step)} is a checkpoint of another student ({architecture}, not "
                    f"{self._architecture}); choose another --out or delete the folder"
                )
            slots = len(note["slots"])
            shapes = jax.tree.map(lambda leaf, n=slots: jax.ShapeDtypeStruct((n, *leaf.shape), leaf.dtype), like)
            places = state_shardings(mesh, rules, shapes)
            abstract = jax.tree.map(
                lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place),
                shapes,
                places,
            )
            try:
                return (
                    saved.step,
                    self._checkpointer.load_checkpointables(saved.step, {"state": abstract})["state"],
                    note,
                )
            except Exception as error:  # as above
                self._warn(saved.step, error)
        return None

    def close(self) -> None:
        """Waits for the last save."""
        try:
            self._checkpointer.close()
        except (OSError, ValueError) as error:  # a failed save is raised once more when its writer is joined
            self._report_full_disk(error)

    def _report_full_disk(self, error: Exception) -> None:
        """Says so and lets the run go on if the disk is full; raises any other error."""
        if getattr(error, "errno", None) != errno.ENOSPC and "No space left" not in str(error):
            raise error
        self._say(f"a checkpoint was not saved, the disk of {self._folder} is full; the run goes on, make room")

    def _warn(self, step: int, error: Exception) -> None:
        first = (str(error).splitlines() or [type(error).__name__])[0][:200]
        self._say(f"checkpoint {self._folder / str(step)} is damaged ({first}); using the one before it")
