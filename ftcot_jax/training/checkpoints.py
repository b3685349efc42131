"""Checkpoints of a pool of slots: the only module that knows Orbax.

A checkpoint is the slot-stacked train state and a small JSON note (which trial is in which slot). Orbax writes
it to a temporary name and renames it, in a bucket marks it as whole by a last file; one that is damaged all the
same is skipped with a warning, and the one before it is used.
"""

from __future__ import annotations

import contextlib
import errno
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
from etils import epath
from orbax.checkpoint import v1 as ocp

from ftcot_jax.errors import FtcotError
from ftcot_jax.remote_folder import is_remote, reaching, remove_tree, sizes
from ftcot_jax.training.mesh import Rules, state_shardings
from ftcot_jax.training.processes import ALONE, Processes
from ftcot_jax.training.step import SlotState


class Checkpoints:
    """The checkpoints of one pool.

    Args:
      folder: where they live, local or remote.
      architecture: identifies the students' shapes; a checkpoint of another is refused.
      say: receives warnings.
      keep: how many of the last ones stay.
      processes: those that save and restore together; a checkpoint that one of them cannot read is damaged for all.
    """

    def __init__(
        self,
        folder: epath.Path,
        architecture: str,
        say: Callable[[str], None],
        keep: int,
        processes: Processes = ALONE,
    ) -> None:
        self._processes = processes
        self._folder = folder
        self._architecture = architecture
        self._say = say
        self._keep = keep
        self._checkpointer = self._open()

    def _open(self) -> ocp.training.Checkpointer:
        with reaching(self._folder, writing=True):
            return ocp.training.Checkpointer(
                self._folder,
                preservation_policy=ocp.training.preservation_policies.LatestN(self._keep),
                cleanup_tmp_directories=True,
            )

    def save(self, tick: int, state: SlotState, note: dict[str, Any]) -> None:
        """Saves the state after `tick` pool steps, going on with the copy to disk in the background.

        A full disk is said, also that of the save before, and the run goes on.
        """
        custom = {"architecture": self._architecture, "note": note}
        with self._full_disk_is_said():
            self._checkpointer.wait()  # a failure of the save before shows here, and is not this one's
        with self._full_disk_is_said():
            self._checkpointer.save_checkpointables_async(
                tick, {"state": state}, force=True, overwrite=True, custom_metadata=custom
            )
            # On a CPU the saver reads the very buffers that the next step is about to overwrite.
            if jax.default_backend() == "cpu":
                self._checkpointer.wait()

    def restore(
        self, like: SlotState, mesh: jax.sharding.Mesh, rules: Rules
    ) -> tuple[int, SlotState, dict[str, Any]] | None:
        """Returns (tick, state, note) of the newest readable checkpoint, or None.

        Damaged ones are moved aside, so that they neither count among those kept nor push a good one out.

        Args:
          like: the state, or its shapes, of one trial; the number of slots is the checkpoint's own.
          mesh: where the restored state shall live, whatever mesh saved it.
          rules: the student family's sharding rules.

        Raises:
          FtcotError: the newest checkpoint belongs to another architecture.
        """
        steps = sorted((checkpoint.step for checkpoint in self._checkpointer.checkpoints), reverse=True)
        for step in self._processes.decide("checkpoints", steps):
            read = self._whole(step, functools.partial(self._read_note, step))
            if read is None:
                continue
            architecture, note = read
            if architecture != self._architecture:
                raise FtcotError(
                    f"{self._folder / str(step)} is a checkpoint of another student ({architecture}, not "
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
            load = functools.partial(self._checkpointer.load_checkpointables, step, {"state": abstract})
            loaded = self._whole(step, load)
            if loaded is not None:
                return step, loaded["state"], note
        return None

    def _read_note(self, step: int) -> tuple[str, dict[str, Any]]:
        custom = self._checkpointer.metadata(step).custom_metadata
        return custom["architecture"], custom["note"]

    def _whole(self, step: int, read: Callable[[], Any]) -> Any:
        """What `read` finds; None where one process finds damage, for which the checkpoint is set aside."""
        found, damage = self._attempt(read)
        if damage is not None and is_remote(self._folder):
            sizes(self._folder / str(step))  # raises if the bucket is out of reach: no checkpoint is to blame for that
            found, damage = self._attempt(read)
        seen = [what for what in self._processes.gather(f"checkpoint {step}", damage) if what is not None]
        if not seen:
            return found
        if self._processes.lead:
            self._set_aside(step, seen[0])
        self._processes.gather(f"checkpoint {step} set aside")
        self._checkpointer.reload()
        return None

    def _attempt(self, read: Callable[[], Any]) -> tuple[Any, str | None]:
        """What is read, or None and why."""
        try:
            return read(), None
        except Exception as error:  # Orbax raises its own and the file system's kinds for a damaged folder
            return None, (str(error).splitlines() or [type(error).__name__])[0][:200]

    def close(self) -> None:
        """Waits for the last save."""
        with self._full_disk_is_said():
            self._checkpointer.close()

    @contextlib.contextmanager
    def _full_disk_is_said(self) -> Iterator[None]:
        """Lets the run go on if the disk is full; any other error is raised, a bucket's in one line."""
        try:
            with reaching(self._folder, writing=True):
                yield
        except (OSError, ValueError) as error:
            if getattr(error, "errno", None) != errno.ENOSPC and "No space left" not in str(error):
                raise
            full = f"a checkpoint was not saved, the disk of {self._folder} is full"
            if self._processes.count > 1:  # the others may be waiting in the middle of it
                raise FtcotError(f"{full}; the one before it is whole: make room and run the same command") from error
            self._say(f"{full}; the run goes on, make room")
            self._checkpointer = self._open()  # the old one would raise its error again, and remove no half a save

    def _set_aside(self, step: int, damage: str) -> None:
        folder, aside = self._folder / str(step), self._folder / f"damaged-{step}"
        remove_tree(aside)
        with reaching(folder):
            folder.rename(aside)
        self._say(f"checkpoint {folder} is damaged ({damage}); it is now {aside}, and the one before it is used")
