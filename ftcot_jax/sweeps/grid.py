"""The grid: lists of values for dotted recipe keys, multiplied out into trials, some of them left out."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ftcot_jax.errors import UsageError, nearest

ARM = "arm"
METHOD = "method"
LABEL = "label"

# The paper's methods, as what they are to a recipe. ft_cot takes each question's first completion, as the paper its
# greedy one; ft_cot_diverse as many as select.diversity says.
METHODS: Mapping[str, Mapping[str, Any]] = {
    "zs": {"template": "zs"},
    "zs_cot": {"template": "zs_cot"},
    "fs_cot": {"template": "fs_cot"},
    "ft": {"template": "ft_token"},
    "ft_cot": {"template": "ft_cot_token", "select.diversity": 1},
    "ft_cot_diverse": {"template": "ft_cot_token"},
}

Condition = dict[str, Any]


class SweepSettings(BaseModel):
    """Section ``sweep:``. Axes are multiplied; keys of one axis go together, value by value."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    axes: list[dict[str, list[Any]]] = Field(
        default_factory=list,
        description="Each axis maps dotted recipe keys, or `arm` for a display name, or `method` for one of the "
        "paper's, to equally long lists. A value may be a section; a `label` in it is its display name. Axes may be a "
        "list, or named, so that a recipe based on this one, or an override, can replace one; null drops it.",
    )
    exclude: list[Condition] = Field(
        default_factory=list,
        description="Points that are left out: each condition maps axes' keys to a value, or to a list of values, and "
        "takes the points that meet all of it.",
    )
    only: Condition = Field(
        default_factory=dict, description="A condition as in exclude; points that do not meet it are left out."
    )
    lease_seconds: float = Field(
        120, gt=0, description="A worker not heard of for so long is taken for lost, and others take its trials over."
    )

    @field_validator("axes", mode="before")
    @classmethod
    def _named(cls, axes: Any) -> Any:
        return [axis for axis in axes.values() if axis is not None] if isinstance(axes, dict) else axes

    @field_validator("axes")
    @classmethod
    def _equal_lists(cls, axes: list[dict[str, list[Any]]]) -> list[dict[str, list[Any]]]:
        for number, axis in enumerate(axes):
            lengths = {key: len(values) for key, values in axis.items()}
            if len(set(lengths.values())) > 1 or 0 in lengths.values() or not lengths:
                raise ValueError(f"axis {number}: lists must be of one length and not empty, got {lengths}")
            for method in axis.get(METHOD, ()):
                if method not in METHODS:
                    known = ", ".join(METHODS)
                    raise ValueError(f"axis {number}: no method {method!r}{nearest(str(method), METHODS)}; {known}")
        keys = [key for axis in axes for key in axis if key != ARM]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise ValueError(f"two axes set '{twice}'; the later would win")
        return axes

    @property
    def product(self) -> int:
        """Points before any is left out."""
        return math.prod(len(next(iter(axis.values()))) for axis in self.axes)


@dataclasses.dataclass(frozen=True)
class Point:
    """One trial of the grid.

    Attributes:
      arm: what is compared; points that differ only in a seed share it.
      name: arm and seeds.
      overlay: dotted recipe keys and their values here; a section is laid over the recipe's own.
    """

    arm: str
    name: str
    overlay: dict[str, Any]


def expand(settings: SweepSettings, where: str = "recipe") -> list[Point]:
    """Multiplies the axes out; the last axis varies fastest. No axes give one point that changes nothing.

    Args:
      settings: the grid.
      where: the recipe, for errors.

    Raises:
      UsageError: a condition names a key that no axis sets, or a value that no point has, or nothing is left.
    """
    combinations = itertools.product(*map(_choices, settings.axes))
    found = [(_point(combination), _facts([part.values for part in combination])) for combination in combinations]
    known = {key for _, facts in found for key in facts}
    conditions = [(f"sweep.exclude.{number}", condition) for number, condition in enumerate(settings.exclude)]
    if settings.only:
        conditions.append(("sweep.only", settings.only))
    for name, condition in conditions:
        _check(f"{where}: {name}", condition, [facts for _, facts in found], known)
    kept = [
        point
        for point, facts in found
        if _meets(facts, settings.only) and not any(_meets(facts, condition) for condition in settings.exclude)
    ]
    if not kept:
        raise UsageError(f"{where}: sweep: all {len(found)} points are left out by sweep.exclude and sweep.only")
    return kept


@dataclasses.dataclass(frozen=True)
class _Choice:
    """One place of an axis: its values by key, and what it adds to the names of points there."""

    values: dict[str, Any]
    arm: tuple[str, ...]
    seeds: tuple[str, ...]


def _choices(axis: dict[str, list[Any]]) -> list[_Choice]:
    """Where an axis names its places, by arms, methods or labels, its other keys are not shown too, unless needed."""
    rows = [dict(zip(axis, values, strict=True)) for values in zip(*axis.values(), strict=True)]
    seeds = [tuple(_shown(key, row[key]) for key in row if _is_seed(key)) for row in rows]
    named = [tuple(_shown(key, value) for key, value in row.items() if _is_name(key, value)) for row in rows]
    if ARM not in axis and (not all(named) or len({*zip(named, seeds, strict=True)}) < len(rows)):
        named = [tuple(_shown(key, row[key]) for key in row if not _is_seed(key)) for row in rows]
    elif ARM in axis:
        named = [(str(row[ARM]),) for row in rows]
    return [_Choice(*parts) for parts in zip(rows, named, seeds, strict=True)]


def _is_seed(key: str) -> bool:
    return key.rpartition(".")[2] == "seed"


def _is_name(key: str, value: Any) -> bool:
    return key == METHOD or (isinstance(value, dict) and LABEL in value)


def _point(combination: tuple[_Choice, ...]) -> Point:
    overlay: dict[str, Any] = {}
    for part in combination:
        overlay |= METHODS.get(part.values.get(METHOD, ""), {})
        overlay |= {key: _without_label(value) for key, value in part.values.items() if key not in (ARM, METHOD)}
    arm = [text for part in combination for text in part.arm]
    seeds = [text for part in combination for text in part.seeds]
    return Point(", ".join(arm), ", ".join([*arm, *seeds]), overlay)


def _without_label(value: Any) -> Any:
    return {key: part for key, part in value.items() if key != LABEL} if isinstance(value, dict) else value


def _shown(key: str, value: Any) -> str:
    """What a value is called in the trial's name."""
    if key == METHOD:
        return str(value)
    if not isinstance(value, dict):
        return f"{key}={value}"
    return str(value[LABEL]) if LABEL in value else ", ".join(f"{k}={v}" for k, v in _leaves(key, value).items())


def _facts(combination: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What conditions can ask of a point: its axes' keys, those inside sections, and sections' labels by their key."""
    facts: dict[str, Any] = {}
    for part in combination:
        for key, value in part.items():
            facts |= _leaves(key, _without_label(value))
            if isinstance(value, dict) and LABEL in value:
                facts[key] = value[LABEL]
            elif not isinstance(value, dict):
                facts[key] = value
    return facts


def _leaves(key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {key: value}
    found: dict[str, Any] = {}
    for name, part in value.items():
        found |= _leaves(f"{key}.{name}", part)
    return found


def _meets(facts: Mapping[str, Any], condition: Condition) -> bool:
    return all(key in facts and _is_one_of(facts[key], wanted) for key, wanted in condition.items())


def _is_one_of(value: Any, wanted: Any) -> bool:
    return any(_same(value, one) for one in wanted) if isinstance(wanted, list) else _same(value, wanted)


def _same(value: Any, wanted: Any) -> bool:
    return bool(value == wanted) and isinstance(value, bool) == isinstance(wanted, bool)


def _check(where: str, condition: Condition, points: list[dict[str, Any]], known: set[str]) -> None:
    """Every key, every value of it, and all of them together must be some point's."""
    if not condition:
        raise UsageError(f"{where}: empty, so it would leave out every point")
    for key, wanted in condition.items():
        if key not in known:
            raise UsageError(f"{where}: no axis sets '{key}'{nearest(key, known)}")
        values = [facts[key] for facts in points if key in facts]
        for one in wanted if isinstance(wanted, list) else [wanted]:
            if not any(_same(value, one) for value in values):
                shown = list(dict.fromkeys(map(str, values)))
                there = ", ".join(shown[:12]) + (", ..." if len(shown) > 12 else "")
                raise UsageError(f"{where}: no point has {key}={one}{nearest(str(one), shown)}; there are {there}")
    if not any(_meets(facts, condition) for facts in points):
        raise UsageError(f"{where}: no point meets all of {condition}; drop it, or part of it")
