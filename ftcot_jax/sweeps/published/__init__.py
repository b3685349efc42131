"""The paper's own figures, as data to compare with."""

from __future__ import annotations

from ftcot_jax.sweeps.published.figures import PublishedFigure, published_figures

__all__ = ["PublishedFigure", "published_figures"]
