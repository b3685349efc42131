"""Upstream files: from a mirror, from the cache, or by URL at a pinned commit; always checked."""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from pathlib import Path

from ftcot_jax.errors import FtcotError
from ftcot_jax.tasks.task import Source

HOST = "https://raw.githubusercontent.com"
TIMEOUT_SECONDS = 60


def cache_folder() -> Path:
    """Where downloaded files are kept: FTCOT_CACHE, or ``ftcot`` in the user's cache folder."""
    chosen = os.environ.get("FTCOT_CACHE")
    return Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ftcot"


def fetch(source: Source, mirror: str | None = None) -> Path:
    """Returns a local file with the source's content.

    Args:
      source: which file.
      mirror: folder laid out as OWNER/REPO/COMMIT/PATH; default: FTCOT_MIRROR; without one, the cache is
        asked and then the network.

    Raises:
      FtcotError: the file is missing, cannot be downloaded, or is not the one that was pinned.
    """
    mirror = mirror or os.environ.get("FTCOT_MIRROR")
    if mirror:
        file = Path(mirror) / source.place
        if not file.is_file():
            raise FtcotError(f"{file}: not in the mirror; it should hold OWNER/REPO/COMMIT/PATH")
        return _checked(file, source)
    file = cache_folder() / source.place
    if not file.is_file():
        _download(source, file)
    return _checked(file, source)


def is_here(source: Source, mirror: str | None = None) -> bool:
    """Whether `fetch` would find the file without the network."""
    mirror = mirror or os.environ.get("FTCOT_MIRROR")
    return ((Path(mirror) if mirror else cache_folder()) / source.place).is_file()


def _download(source: Source, file: Path) -> None:
    url = f"{HOST}/{source.place}"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:
            content = answer.read()
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise FtcotError(f"{url}: cannot be downloaded ({reason}); use --mirror DIR or set FTCOT_MIRROR") from error
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    partial.write_bytes(content)
    partial.replace(file)


def _checked(file: Path, source: Source) -> Path:
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    if source.sha256 is not None and digest != source.sha256:
        raise FtcotError(
            f"{file}: altered or truncated (SHA-256 {digest[:16]}..., pinned {source.sha256[:16]}...); "
            "delete it to fetch it again"
        )
    return file
