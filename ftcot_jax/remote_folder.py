"""Folders in a bucket (``gs://``): files move whole, by name, and a bucket that cannot be reached is one clear line.

A bucket has no folders, no rename and no locks. What it has is enough: a file appears whole or not at all, everybody
sees it from then on, and a file can be created on condition that it is not there yet.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import fsspec
from etils import epath

from ftcot_jax.errors import FtcotError

# Other processes write to the same bucket: what was listed once says nothing about what is there now.
fsspec.config.conf.setdefault("gcs", {})["use_listings_cache"] = False


def is_remote(path: os.PathLike[str] | str) -> bool:
    """Whether a path is a bucket's (``gs://...``) and not this machine's."""
    return "://" in os.fspath(path)


def create_exclusively(path: epath.Path, text: str) -> bool:
    """Creates a file if nobody has: of any number of processes, on any machines, one is told True.

    Readers see the whole text or no file. A bucket that has written the file and whose answer was lost is asked once
    more, and says that the file is there: so a file with this very text counts as created by the caller, here and on a
    local disk. The text must therefore be its writer's own, such as by a random number in it.

    Args:
      path: the file, local or remote; a local one's folder must be there.
      text: its content.

    Raises:
      FtcotError: the bucket cannot be reached or written to.
    """
    if is_remote(path):
        with reaching(path, writing=True):
            try:
                filesystem(path).pipe_file(os.fspath(path), text.encode(), mode="create")
            except FileExistsError:
                return _holds(path, text)
        return True
    partial = Path(path).with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    partial.write_text(text, encoding="utf-8")
    try:
        os.link(partial, path)  # unlike a rename it fails where the file is there, and unlike O_EXCL it shows it whole
    except FileExistsError:
        return _holds(path, text)
    finally:
        partial.unlink()
    return True


def _holds(path: epath.Path, text: str) -> bool:
    try:
        return path.read_text(encoding="utf-8") == text
    except FileNotFoundError:
        return False  # another's, and gone again


def sizes(folder: epath.Path) -> dict[str, int]:
    """The bytes of every file below a folder, by its name there, in order; of a bucket in one request a thousand.

    Raises:
      FtcotError: the bucket cannot be reached.
    """
    if is_remote(folder):
        with reaching(folder):
            found = filesystem(folder).find(os.fspath(folder), detail=True)
        prefix = os.fspath(folder).partition("://")[2] + "/"  # an empty folder finds what begins with its name
        files = ((name, info) for name, info in sorted(found.items()) if name.startswith(prefix))
        return {name.removeprefix(prefix): int(info["size"]) for name, info in files}
    local = Path(folder)
    paths = (path for path in sorted(local.rglob("*")) if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(local)): path.stat().st_size for path in paths}


def names(folder: epath.Path) -> list[str]:
    """The names of the files in a folder, without those below; none where there is no such folder.

    Raises:
      FtcotError: the bucket cannot be reached.
    """
    if is_remote(folder):
        return [name for name in sizes(folder) if "/" not in name]
    return os.listdir(folder) if Path(folder).is_dir() else []


def upload(local: Path, remote: epath.Path, names: Iterable[str]) -> None:
    """Copies files of a local folder into a remote one, several at a time; each appears there whole or not at all.

    Raises:
      FtcotError: the bucket cannot be reached or written to.
    """
    names = list(names)
    if names:
        with reaching(remote, writing=True):
            here, there = [os.fspath(local / name) for name in names], [os.fspath(remote / name) for name in names]
            filesystem(remote).put(here, there)


def download(remote: epath.Path, local: Path, files: Mapping[str, int]) -> None:
    """Copies files of a remote folder into a local one, where each appears whole or not at all.

    Args:
      remote: the folder they are in.
      local: the folder they go to; made if it is not there.
      files: their names below both, and their sizes in bytes.

    Raises:
      FtcotError: the bucket cannot be reached, or a file is not there or has another size.
    """
    if not files:
        return
    partials = {name: (local / name).with_name(f".{Path(name).name}.{uuid.uuid4().hex}.partial") for name in files}
    try:
        with reaching(remote):
            here, there = [os.fspath(remote / name) for name in files], [os.fspath(path) for path in partials.values()]
            filesystem(remote).get(here, there)
        for name, partial in partials.items():
            if partial.stat().st_size != files[name]:
                raise FtcotError(f"{remote / name} has {partial.stat().st_size} bytes, not {files[name]}: damaged")
            partial.replace(local / name)
    except FileNotFoundError as error:
        raise FtcotError(f"{remote}: a file of it is gone ({error})") from error
    finally:
        for partial in partials.values():
            partial.unlink(missing_ok=True)


def remove_tree(folder: epath.Path) -> None:
    """Removes a folder and all below it, if it is there.

    Raises:
      FtcotError: the bucket cannot be reached.
    """
    with reaching(folder):
        folder.rmtree(missing_ok=True)


class Mirror:
    """A bucket's copy of logs that are written bit by bit in a local folder; nothing to do where the two are one.

    Only what is named is copied: other files of the folder may be another process's, or older than the bucket's.

    Args:
      local: where the logs are written.
      remote: where they are kept.
    """

    def __init__(self, local: Path, remote: epath.Path) -> None:
        self._local, self._remote = local, remote
        self._sent: dict[str, tuple[int, int]] = {}
        self._there: dict[str, int] | None = None

    def fetch(self, name: str) -> None:
        """Replaces a local file by the bucket's, if that has one: of several machines, the last to push knows best.

        Raises:
          FtcotError: the bucket cannot be reached.
        """
        if not is_remote(self._remote):
            return
        path = self._remote / name
        try:
            with reaching(path):
                size = path.stat().length
        except FileNotFoundError:
            return
        download(self._remote, self._local, {name: size})
        self._sent |= self._states([name])

    def push(self, names: Iterable[str]) -> None:
        """Copies up what has changed of these files and folders; what another process pushed is known by its size.

        Raises:
          FtcotError: the bucket cannot be reached or written to.
        """
        names = list(names)
        if not names or not is_remote(self._remote):
            return
        if self._there is None:
            self._there = sizes(self._remote)
        now = self._states(names)
        changed = [
            name
            for name, state in now.items()
            if self._sent.get(name) != state and (name in self._sent or self._there.get(name) != state[0])
        ]
        upload(self._local, self._remote, changed)
        self._sent |= now

    def _states(self, names: Iterable[str]) -> dict[str, tuple[int, int]]:
        """Size and time of change of local files, those of folders too."""
        files: list[Path] = []
        for path in (self._local / name for name in names):
            files += [path / inner for inner in sizes(epath.Path(path))] if path.is_dir() else [path]
        there = ((file, file.stat()) for file in files if file.is_file())
        return {str(file.relative_to(self._local)): (state.st_size, state.st_mtime_ns) for file, state in there}


def filesystem(path: epath.Path) -> fsspec.AbstractFileSystem:
    """The client of a remote path's bucket.

    Raises:
      FtcotError: its package is not installed.
    """
    protocol = os.fspath(path).partition("://")[0]
    for name in ("gcsfs", "google.auth"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what they log they raise too, and that is said in a line
    try:
        return fsspec.filesystem(protocol)
    except ImportError as error:
        raise FtcotError(f'{path}: needs gcsfs; pip install "ftcot_jax[gcs]"') from error


@contextlib.contextmanager
def reaching(path: epath.Path, writing: bool = False) -> Iterator[None]:
    """Turns whatever a bucket's client raises into one line; files that are there, or are not, are the caller's matter.

    Args:
      path: what is read or written inside.
      writing: a file need not be there to be written, so what is missing is the bucket.

    Raises:
      FtcotError: no such bucket, no right to it, or no way to it.
    """
    try:
        yield
    except FtcotError:
        raise
    except Exception as error:  # the clients of Google, of HTTP and of the file system raise kinds of their own each
        if isinstance(error, FileExistsError) or (isinstance(error, FileNotFoundError) and not writing):
            raise
        if not is_remote(path) or getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise  # this machine's own
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        if isinstance(error, FileNotFoundError):
            reason = "no such bucket, or removed meanwhile"
        raise FtcotError(
            f"{path}: cannot be reached ({reason}); `ftcot doctor --out FOLDER` says more; then run the same command, "
            "which goes on from here"
        ) from error
