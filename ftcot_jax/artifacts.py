"""Artefacts addressed by what made them: the same inputs find the same folder, in any run.

A stage's output is a folder ``<root>/<kind>-<address>``, where the address is a hash of the kind and of
everything that decides its content. On a disk it is written under a temporary name and renamed once complete. A
bucket renames nothing: there it is made on this machine's disk and copied up, below a name that no other process
uses, and then exists by its manifest, which is written last and by one process only. Either way what is found is
whole, whatever killed the process that wrote it. On one machine a lock per address makes a second run wait for the
first and then reuse its result.
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
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock
from etils import epath

from ftcot_jax.errors import FtcotError
from ftcot_jax.remote_folder import create_exclusively, download, is_remote, reaching, remove_tree, sizes, upload

MANIFEST = "manifest.json"


def address(kind: str, inputs: dict[str, Any]) -> str:
    """Returns the 12 hex digits that name an artefact of this kind made from these inputs (JSON values)."""
    text = json.dumps([kind, inputs], sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclasses.dataclass(frozen=True)
class Artifact:
    """A finished folder.

    Attributes:
      kind: the first half of its name.
      address: the second.
      path: where its files are, for people; who reads them asks for them `on_disk`.
      manifest: what made them, and their sizes in bytes.
      fresh: whether it was made just now.
      copy: of one in a bucket, the folder of this machine that keeps what was fetched.
    """

    kind: str
    address: str
    path: epath.Path
    manifest: dict[str, Any]
    fresh: bool
    copy: Path | None = None

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.address}"

    def on_disk(self, name: str) -> epath.Path:
        """The artefact's file or folder of that name on this machine's disk, fetched from the bucket if need be.

        Raises:
          FtcotError: the bucket cannot be reached, or a file is gone from it.
        """
        if self.copy is None:
            return self.path / name
        files = self.manifest["files"].items()
        wanted = {file: size for file, size in files if file == name or file.startswith(f"{name}/")}
        kept = {file: self.copy / file for file in wanted}
        missing = {
            file: size for file, size in wanted.items() if not kept[file].is_file() or kept[file].stat().st_size != size
        }
        download(self.path, self.copy, missing)
        return epath.Path(self.copy / name)


@dataclasses.dataclass
class Store:
    """A folder of artefacts, local or remote (``gs://``), shared by any number of runs.

    Args:
      root: the folder; made when first written to.
      say: receives one line whenever an artefact is reused, waited for or made.
      number: of this process among several that make the same; number 0 makes, and the others find.
      local: of a remote store, a folder of this machine for what is being made, what was fetched, and locks.
    """

    root: epath.Path
    say: Callable[[str], None]
    number: int = 0
    local: Path | None = None
    _found: dict[str, Artifact] = dataclasses.field(default_factory=dict, init=False, repr=False)  # in a bucket
    _said: set[str] = dataclasses.field(default_factory=set, init=False, repr=False)  # once is enough

    def find(self, kind: str, inputs: dict[str, Any]) -> Artifact | None:
        """Returns the finished artefact these inputs made, or None.

        Raises:
          FtcotError: the folder is there but a file in it is missing or has another size.
        """
        name = f"{kind}-{address(kind, inputs)}"
        if name in self._found:
            return self._found[name]  # asking a bucket takes two requests, and what it has does not change
        folder = self.root / name
        try:
            with reaching(folder):
                text = (folder / MANIFEST).read_text(encoding="utf-8")
            manifest = json.loads(text)
        except FileNotFoundError:
            return None
        except json.JSONDecodeError as error:
            raise FtcotError(f"{folder / MANIFEST}: not JSON ({error}); delete the folder to make it again") from error
        found = self._artifact(name, manifest, fresh=False)
        there = sizes(found.path)
        for file, size in manifest["files"].items():
            if there.get(file) != size:
                state = f"has {there[file]} bytes, not {size}" if file in there else "is missing"
                raise FtcotError(f"{found.path / file} {state}: damaged; delete {folder} to make it again")
        if self.local is not None:
            self._found[name] = found
        return found

    def _artifact(self, name: str, manifest: dict[str, Any], fresh: bool) -> Artifact:
        """An artefact by its manifest; in a bucket that names the folder in which this very making of it lies."""
        part = manifest.get("at", "")
        copy = None if self.local is None else self.local / (f"{name}-{part}" if part else name)
        return Artifact(manifest["kind"], manifest["address"], self.root / name / part, manifest, fresh, copy)

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
            partial = epath.Path(self._workshop) / f".partial-{name}"
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
                "files": sizes(partial),
            }
            if self.local is not None:
                made = self._publish(partial, name, manifest)
            else:
                (partial / MANIFEST).write_text(_json(manifest), encoding="utf-8")
                partial.rename(self.root / name)
                made = self._artifact(name, manifest, fresh=True)
            self._said.add(name)
            if made.fresh:
                self.say(f"{kind}: made {made.path} in {manifest['seconds']:.1f} s")
            return made

    def _publish(self, partial: epath.Path, name: str, manifest: dict[str, Any]) -> Artifact:
        """Copies what was made up into the bucket; if another process was faster, theirs is what there is."""
        manifest = manifest | {"at": uuid.uuid4().hex[:12]}  # also makes the manifest's text ours alone
        made = self._artifact(name, manifest, fresh=True)
        upload(Path(partial), made.path, manifest["files"])
        while not create_exclusively(self.root / name / MANIFEST, _json(manifest)):
            theirs = self.find(made.kind, manifest["inputs"])
            if theirs is not None:
                self.say(f"{made.kind}: another process made {theirs.path} meanwhile; it is taken, and ours removed")
                remove_tree(made.path)
                made = theirs
                break
        partial.rmtree()
        return made

    def remove(self, artifact: Artifact) -> None:
        """Removes an artefact that nothing needs any more; half of it is never found, whenever this is killed."""
        if artifact.copy is not None:
            self._found.pop(artifact.name, None)
            with reaching(self.root):
                (self.root / artifact.name / MANIFEST).unlink(missing_ok=True)
            remove_tree(artifact.path)
            remove_tree(epath.Path(artifact.copy))
            self._said.discard(artifact.name)
            return
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

        The lock of a remote store holds on this machine. Of several processes number 0 holds it for all.
        """
        if self.number > 0:
            yield
            return
        locks = self._workshop / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(locks / f"{name}.lock")
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

    @property
    def _workshop(self) -> Path:
        """Where artefacts are made: on the store's own disk, or beside the copies of a bucket's."""
        return Path(self.root) if self.local is None else self.local

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


def _json(manifest: dict[str, Any]) -> str:
    return json.dumps(manifest, indent=1, ensure_ascii=False)


def write_atomically(path: epath.Path, text: str) -> None:
    """Writes `text` so that a reader sees the old file or the new one, never half of it."""
    if is_remote(path):
        with reaching(path, writing=True):
            path.write_text(text, encoding="utf-8")
        return
    # Not the process's number: in containers on a shared disk all of them may be number 1.
    partial = path.parent / f".{path.name}.{uuid.uuid4().hex}.partial"
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
