"""The form of a benchmark's results: rows of figures, as one Markdown table and, the same, as JSON."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ftcot_jax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Spread:
    """Repeated measurements of one thing."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        return cls(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{number(self.median)} ({number(self.low)} to {number(self.high)})"


Row = Mapping[str, Any]
"""Column name to text, number, Spread, or None where there is no such figure."""


def number(value: float) -> str:
    """With three digits or more that count."""
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3g}"


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a table; its columns are those of the first row."""
    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns), *([_cell(row[column]) for column in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return number(value) if isinstance(value, int | float) else str(value)


def check_writable(file: str | None) -> None:
    """A benchmark's last act must not be to find that its figures cannot be kept.

    Raises:
      UsageError: the JSON file's folder is not there, or the name is a folder's.
    """
    if file is not None and (Path(file).is_dir() or not Path(file).absolute().parent.is_dir()):
        raise UsageError(f"--json {file}: " + ("is a folder" if Path(file).is_dir() else "its folder is not there"))


def publish(figures: Mapping[str, Any], file: str | None, say: Callable[[str], None]) -> dict[str, Any]:
    """Says the table of `figures["rows"]` and writes all figures as JSON; returns what is in the file.

    Args:
      figures: `rows`, and whatever else was measured; a Spread becomes an object.
      file: None for no file.
      say: receives the table.
    """
    say(markdown(figures["rows"]))
    return write_json(figures, file)


def write_json(figures: Mapping[str, Any], file: str | None) -> dict[str, Any]:
    """Writes figures, where there is a file to write; returns them as JSON has them."""
    text = json.dumps(figures, indent=1, default=dataclasses.asdict)
    if file is not None:
        Path(file).write_text(text + "\n", encoding="utf-8")
    values: dict[str, Any] = json.loads(text)
    return values
