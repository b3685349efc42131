"""Artefacts addressed by what made them: the same inputs find the same folder, in any run.

A stage's output is a folder ``<root>/<kind>-<address>``, where the address is a hash of the kind and of
everything that decides its content. It is written under a temporary name and renamed once complete, so a
folder that exists is whole, whatever killed the process that wrote it. On a local disk a lock per address
makes a second run wait for the first and then reuse its result.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import filelock
from etils import epath

from ftcot_jax.errors import FtcotError

MANIFEST = "manifest.json"


def address(kind: str, inputs: dict[str, Any]) -> str:
    """Returns the 12 hex digits that name an artefact of this kind made from these inputs (JSON values)."""
    text = json.dumps([kind, inputs], sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclasses.dataclass(frozen=True)
class Artifact:
    """A finished folder: `path` holds its files, `manifest` says what made them, `fresh` if made just now."""

    kind: str
    address: str
    path: epath.Path
    manifest: dict[str, Any]
    fresh: bool

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.address}"


@dataclasses.dataclass
class Store:
    """A folder of artefacts, local or remote (``gs://``), shared by any number of runs.

    Args:
      root: the folder; made when first written to.
      say: receives one line whenever an artefact is reused, waited for or made.
      number: of this process among several that make the same; number 0 makes, and the others find.
    """

    root: epath.Path
    say: Callable[[str], None]
    number: int = 0
    _said: set[str] = dataclasses.field(default_factory=set, init=False, repr=False)  # once is enough

    def find(self, kind: str, inputs: dict[str, Any]) -> Artifact | None:
        """Returns the finished artefact these inputs made, or None.

        Raises:
          FtcotError: the folder is there but a file in it is missing or has another size.
        """
        name = f"{kind}-{address(kind, inputs)}"
        folder = self.root / name
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except json.JSONDecodeError as error:
            raise FtcotError(f"{folder / MANIFEST}: not JSON ({error}); delete the folder to make it again") from error
        for file, size in manifest["files"].items():
            path = folder / file
            found = path.stat().length if path.exists() else None
            if found != size:
                state = "is missing" if found is None else f"has {found} bytes, not {size}"
                raise FtcotError(f"{path} {state}: damaged; delete {folder} to make it again")
        return Artifact(kind, manifest["address"], folder, manifest, fresh=False)

    def make(
        self,
        kind: str,
        inputs: dict[str, Any],
        build: Callable[[epath.Path], dict[str, Any] | None],
    ) -> Artifact:
        """Returns the artefact of these inputs, calling `build(folder)` only if nobody has made it yet.

        Args:
          kind: the first half of the folder's name, such as ``records``.
          inputs: everything that decides the content, as JSON values.
          build: fills an empty temporary folder; what it returns goes into the manifest as ``summary``.

        Raises:
          FtcotError: this process is not number 0, and does not see what number 0 made.
        """
        if self.number > 0:
            theirs = self.find(kind, inputs)
            if theirs is None:
                raise FtcotError(
                    f"process {self.number} on {socket.gethostname()} does not see {kind}-{address(kind, inputs)} in "
                    f"{self.root}, which process 0 made; --out must be a folder that every process sees, and what the "
                    "recipe names must be the same everywhere"
                )
            return theirs
        with self._lock(kind, inputs):
            found = self.find(kind, inputs)
            if found is not None:
                if found.name not in self._said:
                    self.say(f"{kind}: reusing {found.path}")
                    self._said.add(found.name)
                return found
            started = time.time()
            name = f"{kind}-{address(kind, inputs)}"
            partial = self.root / f".partial-{name}"
            if partial.exists():
                partial.rmtree()
            partial.mkdir(parents=True)
            with self._full_disk_is_one_line(partial):
                summary = build(partial) or {}
            manifest: dict[str, Any] = {
                "kind": kind,
                "address": address(kind, inputs),
                "inputs": inputs,
                "summary": summary,
                "seconds": round(time.time() - started, 3),
                "made_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "files": {str(path.relative_to(partial)): path.stat().length for path in sorted(_files(partial))},
            }
            (partial / MANIFEST).write_text(json.dumps(manifest, indent=1, ensure_ascii=False), encoding="utf-8")
            folder = self.root / name
            partial.rename(folder)
            self._said.add(name)
            self.say(f"{kind}: made {folder} in {manifest['seconds']:.1f} s")
            return Artifact(kind, manifest["address"], folder, manifest, fresh=True)

    def remove(self, artifact: Artifact) -> None:
        """Removes an artefact that nothing needs any more; half of it is never found, whenever this is killed."""
        going = self.root / f".removed-{artifact.name}"
        if going.exists():
            going.rmtree()
        artifact.path.rename(going)
        going.rmtree()
        self._said.discard(artifact.name)

    @contextlib.contextmanager
    def _full_disk_is_one_line(self, partial: epath.Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            partial.rmtree()
            raise FtcotError(
                f"{partial}: {os.strerror(error.errno)}; make room and run the same command, which goes on from here"
            ) from error

    @contextlib.contextmanager
    def exclusive(self, name: str) -> Iterator[None]:
        """Holds the named lock of this store; a second process waits, saying for whom.

        A remote store has no locks: there a name must have one writer, which the launcher guarantees. Of several
        processes number 0 holds it for all.
        """
        if "://" in str(self.root) or self.number > 0:
            yield
            return
        locks = self.root / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(os.fspath(locks / f"{name}.lock"))
        owner = locks / f"{name}.owner"
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            holder = owner.read_text(encoding="utf-8") if owner.exists() else "another process"
            self.say(f"{name}: waiting for {holder} that is working on it (stop it with Ctrl-C; nothing is lost)")
            lock.acquire()
        try:
            owner.write_text(f"process {os.getpid()} on {socket.gethostname()}", encoding="utf-8")
            yield
        finally:
            lock.release()

    def _lock(self, kind: str, inputs: dict[str, Any]) -> contextlib.AbstractContextManager[None]:
        return self.exclusive(f"{kind}-{address(kind, inputs)}")


class NotMade(FtcotError):
    """What was looked for has not been made yet."""


class LookedInto(Store):
    """A store that is only looked into: it makes and locks nothing."""

    def make(
        self,
        kind: str,
        inputs: dict[str, Any],
        build: Callable[[epath.Path], dict[str, Any] | None],
    ) -> Artifact:
        """Returns the artefact of these inputs.

        Raises:
          NotMade: it is not there.
        """
        found = self.find(kind, inputs)
        if found is None:
            raise NotMade(f"{kind}-{address(kind, inputs)} is not in {self.root} yet")
        return found


def _files(folder: epath.Path) -> Iterator[epath.Path]:
    for path in folder.iterdir():
        if path.is_dir():
            yield from _files(path)
        else:
            yield path


def write_atomically(path: epath.Path, text: str) -> None:
    """Writes `text` so that a reader sees the old file or the new one, never half of it."""
    partial = path.parent / f".{path.name}.{os.getpid()}.partial"
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
