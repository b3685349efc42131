"""A trial's metrics as JSON lines, and in whatever else is told of them, exact across a resume."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from ftcot_jax.errors import FtcotError


class Sink(Protocol):
    """Something besides the JSON lines that is told of every row."""

    def write(self, row: dict[str, Any]) -> None: ...

    def close(self) -> None: ...


class MetricLog:
    """Appends one row a step; rows from `resume_step` on are dropped first, since they will be made again.

    Args:
      file: the JSON-lines file.
      resume_step: the first step still to come.
      say: receives a line if the file is damaged.
      sinks: told of every row too, and closed with the log.

    Raises:
      FtcotError: the disk is full, here and in `write` and `close`.
    """

    def __init__(self, file: Path, resume_step: int, say: Callable[[str], None], sinks: Sequence[Sink] = ()) -> None:
        self._path, self._sinks = file, sinks
        file.parent.mkdir(parents=True, exist_ok=True)
        rows, damaged = _rows(file)
        if damaged:
            say(f"{file}: {damaged} damaged line{'s' * (damaged > 1)} dropped; the other steps' metrics are there")
        with full_disk_is_one_line(file):
            partial = file.with_suffix(".partial")
            kept = [row for row in rows if row["step"] < resume_step]
            partial.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
            partial.replace(file)
            self._file = file.open("ab", buffering=0)  # nothing is left to be written when it is closed

    def write(self, row: dict[str, Any]) -> None:
        """Writes one row; ``step`` is its number."""
        line = json.dumps(row).encode() + b"\n"
        with full_disk_is_one_line(self._path):
            while line:
                line = line[self._file.write(line) :]
        for sink in self._sinks:
            sink.write(row)

    def close(self) -> None:
        self._file.close()
        for sink in self._sinks:
            sink.close()


class NoLog:
    """In place of a `MetricLog` where another process writes it."""

    def write(self, row: dict[str, Any]) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


def read_metrics(file: Path) -> list[dict[str, Any]]:
    """The readable rows of a metrics file, in order."""
    return _rows(file)[0]


@contextlib.contextmanager
def full_disk_is_one_line(path: Path) -> Iterator[None]:
    """Says which file the disk has no room for, and that nothing saved is lost."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise FtcotError(
            f"{path}: {os.strerror(error.errno)}; make room and run the same command, which goes on from the last "
            "checkpoint"
        ) from error


def _rows(file: Path) -> tuple[list[dict[str, Any]], int]:
    """Whole rows, and how many damaged lines there are.

    What follows the last newline is no damage: a kill in mid-write leaves half a line, which is made again.
    """
    if not file.exists():
        return [], 0
    rows, damaged = [], 0
    for line in file.read_bytes().split(b"\n")[:-1]:
        try:
            row = json.loads(line)
            rows.append(row | {"step": int(row["step"])})
        except (ValueError, TypeError, KeyError):
            damaged += 1
    return rows, damaged
