"""What a benchmark found, row by row: one Markdown table, and the same as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ftcot_jax.errors import UsageError


class Row(NamedTuple):
    """A figure with its spread.

    Attributes:
      name: what it is, with its unit.
      median: of the repeats; None where nobody knows.
      lowest, highest: of the repeats; None of what is found once.
    """

    name: str
    median: float | None
    lowest: float | None = None
    highest: float | None = None

    @classmethod
    def of(cls, name: str, values: Sequence[float] | None) -> Row:
        """The row of some repeats; None where they are not known."""
        if values is None:
            return cls(name, None)
        return cls(name, rounded(float(np.median(values))), rounded(min(values)), rounded(max(values)))

    @classmethod
    def once(cls, name: str, value: float | None) -> Row:
        """The row of what is found once."""
        return cls(name, None if value is None else rounded(value))

    def as_json(self) -> dict[str, Any]:
        return self._asdict()


def rounded(value: float) -> float:
    """Four digits: what a table shows and its JSON holds."""
    return float(f"{value:.4g}")


def shown(value: float | None) -> str:
    """A figure for a person; a dash for none."""
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:g}"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str | float | None]]) -> str:
    """A table; its first column is text."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        lines.append("| " + " | ".join(cell if isinstance(cell, str) else shown(cell) for cell in row) + " |")
    return "\n".join(lines)


def require_folder(file: Path | None) -> None:
    """Refuses a file that could not be written when all has been measured.

    Raises:
      UsageError: it has no folder.
    """
    if file is not None and not file.absolute().parent.is_dir():
        raise UsageError(f"--json {file}: there is no folder {file.absolute().parent}")


def write_json(file: Path, found: dict[str, Any]) -> None:
    """Writes what a benchmark found."""
    file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
