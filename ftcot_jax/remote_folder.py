"""Folders in a bucket (``gs://``): files move whole, by name, and a bucket that cannot be reached is one clear line.

A bucket has no folders, no rename and no locks. What it has is enough: a file appears whole or not at all, everybody
sees it from then on, and a file can be created on condition that it is not there yet.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
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


def filesystem(path: epath.Path) -> fsspec.AbstractFileSystem:
    """The client of a remote path's bucket.

    Raises:
      FtcotError: its package is not installed.
    """
    protocol = os.fspath(path).partition("://")[0]
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
        missing = isinstance(error, FileNotFoundError)
        reason = "no such bucket" if missing else " ".join(str(error).split())[:200] or type(error).__name__
        raise FtcotError(
            f"{path}: cannot be reached ({reason}); see `ftcot doctor --out {path}`, then run the same command, which "
            "goes on from here"
        ) from error
