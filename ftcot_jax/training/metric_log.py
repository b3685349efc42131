"""A trial's metrics as JSON lines and TensorBoard scalars, exact across a resume."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tensorboardX


class MetricLog:
    """Appends one row a step; rows from `resume_step` on are dropped first, since they will be made again.

    Args:
      file: the JSON-lines file.
      board: folder for TensorBoard events, or None for none.
      resume_step: the first step still to come.
    """

    def __init__(self, file: Path, board: Path | None, resume_step: int) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        kept = [line for line in _lines(file) if json.loads(line)["step"] < resume_step]
        file.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
        self._file = file.open("a", encoding="utf-8")
        self._board = None if board is None else tensorboardX.SummaryWriter(str(board), purge_step=resume_step or None)

    def write(self, row: dict[str, Any]) -> None:
        """Writes one row; ``step`` is its number, every other number becomes a TensorBoard scalar."""
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in row.items():
                if name != "step":
                    self._board.add_scalar(name, value, row["step"])

    def close(self) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()


class NoLog:
    """In place of a `MetricLog` where another process writes it."""

    def write(self, row: dict[str, Any]) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


def read_metrics(file: Path) -> list[dict[str, Any]]:
    """The rows of a metrics file, in order."""
    return [json.loads(line) for line in _lines(file)]


def _lines(file: Path) -> list[str]:
    """Whole lines only: a kill in mid-write leaves half a line, which the resumed run makes again."""
    if not file.exists():
        return []
    text = file.read_text(encoding="utf-8")
    return text[: text.rfind("\n") + 1].splitlines()
