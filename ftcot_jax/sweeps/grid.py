"""The grid: lists of values for dotted recipe keys, multiplied out into trials."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

ARM = "arm"


class SweepSettings(BaseModel):
    """Section ``sweep:``. Axes are multiplied; keys of one axis go together, value by value."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    axes: list[dict[str, list[Any]]] = Field(
        default_factory=list,
        description="Each axis maps dotted recipe keys, or `arm` for a display name, to equally long lists.",
    )

    @field_validator("axes")
    @classmethod
    def _equal_lists(cls, axes: list[dict[str, list[Any]]]) -> list[dict[str, list[Any]]]:
        for number, axis in enumerate(axes):
            lengths = {key: len(values) for key, values in axis.items()}
            if len(set(lengths.values())) > 1 or 0 in lengths.values() or not lengths:
                raise ValueError(f"axis {number}: lists must be of one length and not empty, got {lengths}")
        return axes


@dataclasses.dataclass(frozen=True)
class Point:
    """One trial of the grid.

    Attributes:
      arm: what is compared; points that differ only in a seed share it.
      name: arm and seeds.
      overlay: dotted recipe keys and their values here.
    """

    arm: str
    name: str
    overlay: dict[str, Any]


def expand(settings: SweepSettings) -> list[Point]:
    """Multiplies the axes out; the last axis varies fastest. No axes give one point that changes nothing."""
    choices = [
        [dict(zip(axis, values, strict=True)) for values in zip(*axis.values(), strict=True)] for axis in settings.axes
    ]
    points = []
    for combination in itertools.product(*choices):
        arm: list[str] = []
        seeds: list[str] = []
        overlay: dict[str, Any] = {}
        for part in combination:
            if ARM in part:
                arm.append(str(part[ARM]))
            for key, value in part.items():
                if key == ARM:
                    continue
                overlay[key] = value
                text = f"{key}={value}"
                if key.rpartition(".")[2] == "seed":
                    seeds.append(text)
                elif ARM not in part:
                    arm.append(text)
        points.append(Point(", ".join(arm), ", ".join([*arm, *seeds]), overlay))
    return points
