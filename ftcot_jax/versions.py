"""Which jax and flax work together, checked at import without importing either."""

from __future__ import annotations

import importlib.metadata

# jax release series -> oldest flax tested with it. Flax reaches into jax, so a pair that differs fails far
# from its cause; every pair here has passed the test suite.
TESTED_PAIRS: dict[tuple[int, ...], tuple[int, ...]] = {(0, 10): (0, 12, 8), (0, 12): (0, 12, 12)}


def check_versions() -> None:
    """Raises ImportError, in one line, when the installed jax and flax are not a pair that can work."""
    installed = {name: importlib.metadata.version(name) for name in ("jax", "flax")}
    jax, flax = (_numbers(installed[name]) for name in ("jax", "flax"))
    oldest = TESTED_PAIRS.get(jax[:2])
    if oldest is None or flax < oldest:
        pairs = ", ".join(f"jax {_text(series)} with flax {_text(least)}+" for series, least in TESTED_PAIRS.items())
        raise ImportError(
            f"ftcot_jax: jax {installed['jax']} with flax {installed['flax']} is not a tested pair; "
            f"install one of: {pairs}"
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3] if part.isdigit())


def _text(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))
