"""The report's figures: which curves each of them has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ftcot_jax.sweeps import overlay
from ftcot_jax.sweeps.conditions import Condition, Labels, in_paper_order, size_text
from ftcot_jax.sweeps.cost import Cost
from ftcot_jax.sweeps.cost_table import mean_cost
from ftcot_jax.sweeps.curves import Curve, Panel, Point, panels
from ftcot_jax.sweeps.drawing import Axis, draw
from ftcot_jax.sweeps.results import ArmResult
from ftcot_jax.sweeps.tables import epoch_curve

TeacherAccuracies = Mapping[tuple[str, str], float]  # (teacher, dataset): its accuracy


class Figure(NamedTuple):
    """A figure that was drawn: the stem of its files, and what it shows."""

    name: str
    title: str


def draw_figures(arms: Sequence[ArmResult], teachers: TeacherAccuracies, title: str, folder: Path) -> list[Figure]:
    """Draws what there is to draw, as SVG and PNG into a folder.

    Args:
      arms: of the sweep, as far as they are finished.
      teachers: what the teachers get right.
      title: of the run.
      folder: an existing one.
    """
    conditions = [arm.condition for arm in arms]
    wanted: list[tuple[Figure, Axis, list[Panel]]] = [
        (
            Figure("accuracy_over_diversity", "Accuracy over D"),
            Axis("diversity degree D (rationales a question)", "log2", "{:g}".format),
            overlay.over_diversity(_over_diversity(arms), conditions),
        ),
        (
            Figure("accuracy_over_questions", "Accuracy over the number of training questions"),
            Axis("training questions", "log2", "{:g}".format),
            overlay.over_questions(_over_questions(arms), conditions),
        ),
        (
            Figure("accuracy_over_size", "Accuracy over student size"),
            Axis("student size, parameters", "log10", size_text),
            overlay.over_sizes(_over_sizes(arms), conditions),
        ),
        (
            Figure("accuracy_over_teacher", "Teacher and student"),
            Axis("accuracy of the teacher, %", "linear", "{:g}".format, diagonal=True),
            overlay.over_teachers(_over_teachers(arms, teachers)),
        ),
        (
            Figure("accuracy_over_epochs", "Accuracy by epoch"),
            Axis("epochs", "linear", "{:g}".format, bands=False),
            _over_epochs(arms),
        ),
        (
            Figure("accuracy_over_dollars", "Accuracy and dollars"),
            Axis("US dollars a trial, teacher and devices", "log10", _dollars),
            _over_cost(arms, lambda cost: cost.dollars),
        ),
        (
            Figure("accuracy_over_chip_seconds", "Accuracy and device time"),
            Axis("chip-seconds a trial, training and scoring", "log10", _seconds),
            _over_cost(arms, lambda cost: cost.chip_seconds),
        ),
    ]
    drawn = []
    for figure, axis, found in wanted:
        if found:
            draw(found, axis, title, folder / figure.name)
            drawn.append(figure)
        else:  # an earlier report may have had it
            for suffix in (".svg", ".png"):
                (folder / f"{figure.name}{suffix}").unlink(missing_ok=True)
    return drawn


def _over_diversity(arms: Sequence[ArmResult]) -> list[Panel]:
    return panels(arms, lambda arm: arm.condition.diversity, ["diversity"], levels=lambda arm: True)


def _over_questions(arms: Sequence[ArmResult]) -> list[Panel]:
    return panels(arms, lambda arm: arm.condition.train_questions, ["subset"], levels=_untrained)


def _over_sizes(arms: Sequence[ArmResult]) -> list[Panel]:
    return panels(arms, lambda arm: arm.condition.parameters, ["student"])


def _over_teachers(arms: Sequence[ArmResult], teachers: TeacherAccuracies) -> list[Panel]:
    def accuracy(arm: ArmResult) -> float | None:
        found = teachers.get((arm.condition.teacher or "", arm.condition.task))
        return None if found is None else 100 * found

    return panels(arms, accuracy, ["teacher"], name=lambda arm: arm.condition.teacher or "")


def _over_cost(arms: Sequence[ArmResult], part: Callable[[Cost], float | None]) -> list[Panel]:
    """What cost nothing has no place on a logarithmic axis: it is a level."""
    found = panels(arms, lambda arm: mean_cost(arm, part) or None, ["diversity"], levels=_untrained, least=1)
    return found if sum(len(curve.points) for panel in found for curve in panel.curves) > 1 else []


def _over_epochs(arms: Sequence[ArmResult]) -> list[Panel]:
    """A curve an arm, mean over seeds."""
    curves = [(arm, epoch_curve(arm)) for arm in arms]
    curves = [(arm, curve) for arm, curve in curves if curve]
    texts = _texts([arm for arm, _ in curves])
    return [
        Panel(
            task,
            tuple(
                Curve(
                    text,
                    tuple(Point(epoch, value, value, value, ()) for epoch, value in curve.items()),
                    arm.condition.student,
                )
                for (arm, curve), text in zip(curves, texts, strict=True)
                if arm.condition.task == task
            ),
        )
        for task in in_paper_order([arm.condition.task for arm, _ in curves])
    ]


def _texts(arms: Sequence[ArmResult]) -> list[str]:
    """The arms' own names; of several datasets, what they have in common across them."""
    conditions: list[Condition] = [arm.condition for arm in arms]
    if len({condition.task for condition in conditions}) <= 1:
        return [arm.arm for arm in arms]
    labels = Labels.of(conditions)
    return labels.texts([labels.identity(condition, ["task"]) for condition in conditions])


def _untrained(arm: ArmResult) -> bool:
    return arm.condition.train_questions is None


def _dollars(value: float) -> str:
    return f"${value:g}"


def _seconds(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
