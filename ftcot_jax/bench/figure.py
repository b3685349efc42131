"""A figure that a benchmark found, with its spread: a row of a table of figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Figure(NamedTuple):
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
    def of(cls, name: str, values: Sequence[float] | None) -> Figure:
        """That of some repeats; None where they are not known."""
        if values is None:
            return cls(name, None)
        return cls(name, rounded(float(np.median(values))), rounded(min(values)), rounded(max(values)))

    @classmethod
    def once(cls, name: str, value: float | None) -> Figure:
        """What is found once."""
        return cls(name, None if value is None else rounded(value))

    def as_row(self) -> dict[str, Any]:
        """Its row of a table: no spread where it was found once, and a dash where nobody knows."""
        row: dict[str, Any] = {"": self.name, "median": self.median, "lowest": self.lowest, "highest": self.highest}
        return row if self.median is None else {name: "" if value is None else value for name, value in row.items()}

    def as_json(self) -> dict[str, Any]:
        return self._asdict()


def rounded(value: float) -> float:
    """Four digits: more says nothing."""
    return float(f"{value:.4g}")
