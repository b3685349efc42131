"""The trials of a sweep as its workers found them, so that others can follow it without the recipe's data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from etils import epath

from ftcot_jax.artifacts import write_atomically

FOLDER = "trials"


def write_listing(folder: epath.Path, name: str, trials: Sequence[dict[str, Any]]) -> None:
    """Writes which trials a recipe's sweep has; every worker writes the same."""
    (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    write_atomically(folder / FOLDER / f"{name}.json", json.dumps(list(trials)))


def read_listings(folder: epath.Path) -> dict[str, list[dict[str, Any]]]:
    """The trials of every sweep that works in the folder, by recipe."""
    place = folder / FOLDER
    files = sorted(place.glob("[!.]*.json")) if place.exists() else []
    return {path.name.removesuffix(".json"): json.loads(path.read_text(encoding="utf-8")) for path in files}
