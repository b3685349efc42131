"""Curves of a sweep: arms that differ in one quantity only, in its order."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Sequence

from ftcot_jax.sweeps.conditions import Condition, Labels, in_paper_order, method_order, student_order
from ftcot_jax.sweeps.results import ArmResult

Identity = tuple[tuple[str, Hashable], ...]


@dataclasses.dataclass(frozen=True)
class Point:
    """One arm on a curve: x, and accuracies in [0, 1].

    Attributes:
      name: of the point itself, where a figure writes it beside.
    """

    x: float
    accuracy: float
    low: float
    high: float
    by_seed: tuple[float, ...]
    name: str = ""


@dataclasses.dataclass(frozen=True)
class Curve:
    """Points in order of x; a single one without x is a level.

    Attributes:
      label: what it is, among the curves of its figure.
      points: in order of x.
      student: whose they are.
      published: whether these are the paper's figures.
    """

    label: str
    points: tuple[Point, ...]
    student: str = ""
    published: bool = False


@dataclasses.dataclass(frozen=True)
class Panel:
    """The curves of one dataset, and its levels: arms to which x does not apply."""

    task: str
    curves: tuple[Curve, ...]
    levels: tuple[Curve, ...] = ()


def panels(
    arms: Sequence[ArmResult],
    x: Callable[[ArmResult], float | None],
    without: Sequence[str],
    levels: Callable[[ArmResult], bool] = lambda arm: False,
    least: int = 2,
    name: Callable[[ArmResult], str] = lambda arm: "",
) -> list[Panel]:
    """The arms as curves, a panel a dataset; equal things have equal labels in all panels.

    Args:
      arms: all there are.
      x: an arm's place on the axis; None where it has none.
      without: axes of a condition that x stands for: arms that differ in these alone make a curve.
      levels: whether an arm that is on no curve is shown as a level.
      least: places on the axis that a curve needs.
      name: what is written beside a point.
    """
    labels = Labels.of([arm.condition for arm in arms])
    groups: dict[Identity, list[tuple[float, ArmResult]]] = {}
    rest: list[ArmResult] = []
    for arm in arms:
        at = x(arm)
        if at is None:
            rest.append(arm)
        else:
            groups.setdefault(labels.identity(arm.condition, without), []).append((at, arm))
    kept: dict[Identity, list[tuple[float, ArmResult]]] = {}
    for identity, found in groups.items():
        if len({at for at, _ in found}) >= least:
            kept[identity] = sorted(found, key=lambda pair: pair[0])
        else:
            rest += [arm for _, arm in found]
    if not kept:
        return []
    order = sorted(kept, key=lambda identity: _order(kept[identity][0][1].condition))
    shown = [arm for arm in rest if levels(arm)]
    curve_texts = _texts(labels, [_without_task(identity) for identity in order])
    level_texts = _level_texts(labels, shown)
    found_panels = []
    for task in in_paper_order([str(dict(identity)["task"]) for identity in order]):
        curves = [
            Curve(text, tuple(_point(at, arm, name(arm)) for at, arm in kept[identity]), _student(kept[identity]))
            for identity, text in zip(order, curve_texts, strict=True)
            if dict(identity)["task"] == task
        ]
        flat = [
            Curve(text, (_point(0.0, arm, ""),), arm.condition.student)
            for arm, text in zip(shown, level_texts, strict=True)
            if arm.condition.task == task
        ]
        found_panels.append(Panel(task, tuple(curves), tuple(flat)))
    return found_panels


def _student(found: Sequence[tuple[float, ArmResult]]) -> str:
    """The student of a curve; empty where it has several."""
    students = {arm.condition.student for _, arm in found}
    return students.pop() if len(students) == 1 else ""


def _order(condition: Condition) -> tuple[Hashable, ...]:
    return (
        method_order(condition.method),
        student_order(condition),
        condition.diversity or 0,
        condition.train_questions or 0,
    )


def _without_task(identity: Identity) -> Identity:
    return tuple(part for part in identity if part[0] != "task")


def _texts(labels: Labels, identities: Sequence[Identity]) -> list[str]:
    """Labels of identities that may repeat, of several datasets."""
    distinct = list(dict.fromkeys(identities))
    texts = dict(zip(distinct, labels.texts(distinct), strict=True))
    return [texts[identity] for identity in identities]


def _level_texts(labels: Labels, arms: Sequence[ArmResult]) -> list[str]:
    """Names of levels: the user's own where they are of one dataset, as no other says more."""
    if len({arm.condition.task for arm in arms}) <= 1:
        return [arm.arm for arm in arms]
    return _texts(labels, [_without_task(labels.identity(arm.condition)) for arm in arms])


def _point(at: float, arm: ArmResult, name: str) -> Point:
    return Point(at, arm.accuracy, arm.interval.low, arm.interval.high, tuple(arm.by_seed), name)
