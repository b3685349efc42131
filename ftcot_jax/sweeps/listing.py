"""The trials of a sweep as its workers found them, so that others can follow it without the recipe's data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from etils import epath

from ftcot_jax.artifacts import write_atomically
from ftcot_jax.remote_folder import is_remote, names

FOLDER = "trials"


def write_listing(folder: epath.Path, name: str, trials: Sequence[dict[str, Any]]) -> None:
    """Writes which trials a recipe's sweep has; every worker writes the same."""
    if not is_remote(folder):
        (folder / FOLDER).mkdir(parents=True, exist_ok=True)
    write_atomically(folder / FOLDER / f"{name}.json", json.dumps(list(trials)))


def read_listings(folder: epath.Path) -> dict[str, list[dict[str, Any]]]:
    """The trials of every sweep that works in the folder, by recipe."""
    place = folder / FOLDER
    files = sorted(name for name in names(place) if name.endswith(".json") and not name.startswith("."))
    return {name.removesuffix(".json"): json.loads((place / name).read_text(encoding="utf-8")) for name in files}
