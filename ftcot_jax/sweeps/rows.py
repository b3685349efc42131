"""The results of a sweep's trials: a file a trial that one worker creates, and all of them as one file of JSON lines.

``results/KEY.json`` says that a trial has been trained and scored, ``failed/KEY.ATTEMPT.json`` that it failed and why.
Whatever workers do at once, a trial has one result.
"""

from __future__ import annotations

import functools
import json
import subprocess
from pathlib import Path
from typing import Any

from etils import epath

import ftcot_jax
from ftcot_jax.artifacts import write_atomically
from ftcot_jax.remote_folder import create_exclusively, is_remote, names

RESULTS = "results.jsonl"


class Rows:
    """Results and failures of the sweep in a folder."""

    def __init__(self, folder: epath.Path) -> None:
        self._folder, self._results, self._failed = folder, folder / "results", folder / "failed"

    def prepare(self) -> None:
        """Makes the folders; to be called before anything is published."""
        for place in (self._results, self._failed):
            if not is_remote(place):
                place.mkdir(parents=True, exist_ok=True)

    def finished(self) -> set[str]:
        """Keys of the trials that have a result."""
        return {name.removesuffix(".json") for name in _row_files(self._results)}

    def failures(self) -> dict[str, int]:
        """How often each trial has failed so far."""
        times: dict[str, int] = {}
        for name in _row_files(self._failed):
            key, attempt, _ = name.split(".")
            times[key] = max(times.get(key, 0), int(attempt))
        return times

    def publish(self, key: str, row: dict[str, Any]) -> bool:
        """Publishes a trial's result; False if it has one."""
        return create_exclusively(self._results / f"{key}.json", json.dumps(row))

    def fail(self, key: str, attempt: int, row: dict[str, Any]) -> bool:
        """Notes that a trial failed at an attempt, counted from 1; False if that attempt's end is known."""
        return create_exclusively(self._failed / f"{key}.{attempt}.json", json.dumps(row))

    def forget(self, key: str) -> None:
        """Removes a result whose student or scores are not there any more."""
        (self._results / f"{key}.json").unlink(missing_ok=True)

    def result(self, key: str) -> dict[str, Any]:
        return _read(self._results / f"{key}.json")

    def failure(self, key: str, attempt: int) -> dict[str, Any]:
        return _read(self._failed / f"{key}.{attempt}.json")

    def gather(self) -> int:
        """Writes ``results.jsonl``, all results so far in the order of their end; returns how many."""
        rows = [self.result(key) for key in sorted(self.finished())]
        rows.sort(key=lambda row: (row["finished_at"], row["name"]))
        write_atomically(self._folder / RESULTS, "".join(json.dumps(row) + "\n" for row in rows))
        return len(rows)


def _row_files(folder: epath.Path) -> list[str]:
    return [name for name in names(folder) if name.endswith(".json") and not name.startswith(".")]


def _read(path: epath.Path) -> dict[str, Any]:
    row: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return row


@functools.cache
def code_version() -> dict[str, str | None]:
    """The package's version and, where it is run from a checkout, its commit; ``+`` after it says: and changes."""
    root = Path(ftcot_jax.__file__).parents[1]
    commit = None
    if (root / ".git").exists():
        commit = _git(root, "rev-parse", "HEAD")
        if commit is not None and _git(root, "status", "--porcelain", "--untracked-files=no"):
            commit += "+"
    return {"version": ftcot_jax.__version__, "commit": commit}


def _git(root: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
