"""The paper's own figures beside ours: of the same dataset, method and D, and of its student that is most like ours."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from ftcot_jax.sweeps.conditions import PAPER_TASKS, Condition
from ftcot_jax.sweeps.curves import Curve, Panel, Point
from ftcot_jax.sweeps.published import PublishedFigure, published_figures

METHODS = {
    "Zero-shot": "zs",
    "Zero-shot-CoT": "zs_cot",
    "Few-shot-CoT": "fs_cot",
    "Fine-tune": "ft",
    "Fine-tune-CoT": "ft_cot",
    "Diverse reasoning": "ft_cot_diverse",
}
MAIN_TABLES = ("6a", "6b", "6c", "6d")
_FAMILIES = {"GPT-2": "gpt2", "T5": "t5", "Flan-T5": "flan-t5", "GPT-3": "gpt3"}
_NAMES = {"gpt2": "GPT-2", "t5": "T5", "flan-t5": "Flan-T5", "gpt3": "GPT-3"}
_LIKE = 3.0  # at most so many times larger or smaller
_UNITS = {"M": 1e6, "B": 1e9}


def parameters_of(size: str) -> float:
    """124M as 124e6."""
    return float(size[:-1]) * _UNITS[size[-1]]


def comparable(conditions: Sequence[Condition]) -> list[tuple[str, str]]:
    """The paper's students, as (family, size), that are most like these: of their family, else GPT-2, and their size.

    Students of unknown size, or three times larger or smaller than any of the family, have none.
    """
    found = []
    for condition in conditions:
        if condition.parameters is None:
            continue
        family = _FAMILIES.get(condition.family, "gpt2")
        sizes = {row.size for row in published_figures(family=family, table=MAIN_TABLES) if row.student and row.size}
        if not sizes:
            continue
        distances = {size: abs(math.log(parameters_of(size) / condition.parameters)) for size in sizes}
        nearest = min(distances, key=lambda size: distances[size])
        if distances[nearest] <= math.log(_LIKE):
            found.append((family, nearest))
    return list(dict.fromkeys(found))


def published_label(family: str, size: str) -> str:
    """How the paper's student is called in a figure."""
    return f"paper: {_NAMES[family]} {size}"


def over_diversity(panels: Sequence[Panel], conditions: Sequence[Condition]) -> list[Panel]:
    """Adds the paper's D curves of students like ours."""
    return [
        _with(
            panel,
            [
                _curve(published_label(family, size), rows, "diversity")
                for family, size in comparable(conditions)
                if (rows := published_figures(table="6e", dataset=panel.task, family=family, size=size))
            ],
        )
        for panel in panels
    ]


def over_questions(panels: Sequence[Panel], conditions: Sequence[Condition]) -> list[Panel]:
    """Adds the paper's curves over training questions, of the methods that ours have; it has curie's only."""
    methods = {condition.method for condition in conditions}
    found = []
    for panel in panels:
        curves = []
        for method in [name for name in METHODS if name in methods]:
            rows = published_figures(table="6f", dataset=panel.task, method=METHODS[method], student="curie")
            # Those of the paper's figure, not of the older notebooks that answered in 128 tokens.
            rows = [row for row in rows if row.train_questions is not None and row.source.startswith("nbR")]
            if rows:
                curves.append(_curve(f"{published_label('gpt3', '6.7B')}, {method}", rows, "train_questions"))
        found.append(_with(panel, curves))
    return found


def over_sizes(panels: Sequence[Panel], conditions: Sequence[Condition]) -> list[Panel]:
    """Adds the paper's curves over sizes, of the families and methods that ours have."""
    families = list(dict.fromkeys(family for family, _ in comparable(conditions)))
    methods = {condition.method for condition in conditions}
    found = []
    for panel in panels:
        curves = []
        for family in families:
            for method in [name for name in METHODS if name in methods]:
                rows = published_figures(table=MAIN_TABLES, dataset=panel.task, family=family, method=METHODS[method])
                if rows:
                    points = [_point(parameters_of(row.size), row) for row in rows if row.size]
                    points.sort(key=lambda point: point.x)
                    curves.append(Curve(f"paper: {_NAMES[family]}, {method}", tuple(points), published=True))
        found.append(_with(panel, curves))
    return found


def over_teachers(panels: Sequence[Panel]) -> list[Panel]:
    """Adds the paper's students over the accuracy of their teachers; it has curie's only."""
    found = []
    for panel in panels:
        rows = published_figures(table="6g", dataset=panel.task, measure="accuracy")
        teachers = {row.teacher: row.value for row in rows if row.method == "teacher"}
        points = [
            dataclasses.replace(_point(teachers[row.teacher], row), name=str(row.teacher))
            for row in rows
            if row.method != "teacher" and row.teacher in teachers
        ]
        points.sort(key=lambda point: point.x)
        label = f"{published_label('gpt3', '6.7B')}, Fine-tune-CoT"
        found.append(_with(panel, [Curve(label, tuple(points), published=True)] if points else []))
    return found


def _with(panel: Panel, curves: Sequence[Curve]) -> Panel:
    """The panel with these, if its dataset is one of the paper's."""
    if panel.task not in PAPER_TASKS:
        return panel
    return dataclasses.replace(panel, curves=(*panel.curves, *curves))


def _curve(label: str, rows: Sequence[PublishedFigure], axis: str) -> Curve:
    points = sorted((_point(getattr(row, axis), row) for row in rows), key=lambda point: point.x)
    return Curve(label, tuple(points), published=True)


def _point(x: float, row: PublishedFigure) -> Point:
    share = row.value / 100
    return Point(x, share, share, share, ())
