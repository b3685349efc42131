"""A recipe's YAML before it is typed: read, laid over the recipe it is based on, and changed key by key."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ftcot_jax.errors import UsageError
from ftcot_jax.text_files import read_yaml

BASE = "base"
_AXES = ("sweep", "axes")
# Of these keys of one section a recipe gives one: laid over another, it takes that one's place.
_ALTERNATIVES = (
    ("student", "api_student"),
    ("checkpoint", "scratch"),
    ("import", "endpoint", "loopback"),
    ("examples", "tokens"),
    ("epochs", "steps"),
)


def read_recipe(path: str) -> dict[str, Any]:
    """Reads a recipe; where it has a ``base:``, another recipe beside it, it is laid over that one.

    Sections are merged key by key; lists, values, and named axes of the grid replace those of the base.

    Raises:
      UsageError: there is no such file, it is no mapping, or recipes are based on one another in a circle.
    """
    return _read(Path(path), ())


def _read(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    if not path.exists():
        if above:
            raise UsageError(f"{above[-1]}: base: there is no recipe {path}")
        raise UsageError(f"{path}: no such recipe; `ls configs` shows those that come with the package")
    raw = read_yaml(path)
    base = raw.pop(BASE, None)
    if base is None:
        return raw
    if not isinstance(base, str):
        raise UsageError(f"{path}: base: the file name of another recipe, got {base!r}")
    below = path.parent / base
    if below.resolve() in [file.resolve() for file in (*above, path)]:
        raise UsageError(f"{path}: base: {base} is based on this recipe in turn")
    return overlaid(_read(below, (*above, path)), raw, whole=_AXES)


def overlaid(
    below: Mapping[str, Any], above: Mapping[str, Any], whole: tuple[str, ...] = (), at: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Returns `below` with `above` laid over it: sections are merged, all else is replaced, alternatives too.

    Args:
      below, above: recipes, or sections.
      whole: keys down to a section whose own parts are replaced as a whole.
      at: keys down to these sections.
    """
    chosen = {key for group in _ALTERNATIVES for key in group if any(above.get(one) is not None for one in group)}
    merged = {key: value for key, value in below.items() if key in above or key not in chosen}
    for key, value in above.items():
        known = merged.get(key)
        both = isinstance(known, dict) and isinstance(value, dict) and (not whole or at != whole)
        merged[key] = overlaid(known, value, whole, (*at, key)) if both and known is not None else value
    return merged


def assign(raw: dict[str, Any], key: str, value: Any, where: str, *, merge: bool = False) -> None:
    """Sets a dotted key in place, making sections on the way.

    Args:
      raw: the recipe.
      key: such as ``train.batch.examples``.
      value: what it becomes.
      where: who asks for it, for errors.
      merge: lay a section over the one that is there, in place of replacing it.

    Raises:
      UsageError: one of the sections is a value.
    """
    *sections, last = key.split(".")
    for section in sections:
        if raw.get(section) is None:
            raw[section] = {}
        raw = raw[section]
        if not isinstance(raw, dict):
            raise UsageError(f"{where}: '{section}' is a value, not a section")
    known = raw.get(last)
    both = merge and isinstance(known, dict) and isinstance(value, dict)
    raw[last] = overlaid(known, copy.deepcopy(value)) if both and known is not None else value
