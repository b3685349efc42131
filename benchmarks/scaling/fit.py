"""How a cost grows with a size: the exponent of its power law."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LARGEST = 3
"""Points that a fit is made of: at small sizes a cost is mostly what does not depend on size."""


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The slope of log cost over log size, by least squares over the largest sizes; 1 is linear.

    Raises:
      ValueError: fewer than two points.
    """
    if len(sizes) < 2:
        raise ValueError(f"a fit needs two points, not {len(sizes)}")
    order = np.argsort(sizes)[-LARGEST:]
    slope, _ = np.polyfit(np.log(np.take(sizes, order)), np.log(np.take(costs, order)), 1)
    return float(slope)


def each(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Cost of one more, between the two largest sizes."""
    (first, low), (last, high) = sorted(zip(sizes, costs, strict=True))[-2:]
    return (high - low) / (last - first)
