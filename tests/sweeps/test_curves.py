"""Curves are found by what trials are, not by what they are called."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from ftcot_jax.sweeps.conditions import Labels, factors, in_paper_order, size_text
from ftcot_jax.sweeps.curves import Curve, Panel, panels
from ftcot_jax.sweeps.results import ArmResult, TrialResult, arms
from tests.sweeps.cases import condition, grid, trial


def over_diversity(results: list[TrialResult]) -> list[Panel]:
    return panels(arms(results), lambda arm: arm.condition.diversity, ["diversity"], levels=lambda arm: True)


def shape(curve: Curve) -> tuple[str, list[float]]:
    return curve.label, [point.x for point in curve.points]


def named(name: str, **given: Any) -> TrialResult:
    return trial(name, 0, [1, 0, 1, 0], condition=condition(**given))


def test_a_curve_a_student_and_a_panel_a_dataset() -> None:
    first, second = over_diversity(grid(tasks=("svamp", "multiarith"), seeds=2))
    assert (first.task, second.task) == ("multiarith", "svamp")  # the paper's order
    degrees = [1, 2, 4, 8, 16, 32, 64]
    for panel in (first, second):
        assert [shape(curve) for curve in panel.curves] == [
            ("gpt2", degrees),
            ("gpt2-medium", degrees),
            ("gpt2-large", degrees),
        ]
        assert [level.label for level in panel.levels[:2]] == ["Fine-tune, gpt2", "Zero-shot, gpt2"]
        assert len(panel.levels) == 6
    assert all(len(point.by_seed) == 2 for curve in first.curves for point in curve.points)


def test_names_of_arms_decide_nothing() -> None:
    results = grid(tasks=("svamp",), students=("gpt2",), degrees=(1, 4), seeds=1, baselines=False)
    swapped = [dataclasses.replace(row, arm=f"D={5 - (row.condition.diversity or 0)}") for row in results]
    ((curve,),) = [panel.curves for panel in over_diversity(swapped)]
    assert [(point.x, point.accuracy) for point in curve.points] == [
        (row.condition.diversity, row.scores["accuracy"]) for row in swapped
    ]


def test_a_cap_makes_another_curve_and_what_follows_from_d_does_not() -> None:
    """As in the quickstart: 'first right of 8' is no point of the D curve; epochs that follow D are no factor."""
    given = [(1, None, 20), (2, None, 10), (8, None, 5), (8, 1, 5)]
    results = [
        named(
            f"{degree} {cap}",
            diversity=degree,
            method="Fine-tune-CoT" if degree == 1 else "Diverse reasoning",
            settings={"select.per_question": cap, "train.epochs": epochs},
        )
        for degree, cap, epochs in given
    ]
    assert factors([row.condition for row in results]) == ["select.per_question"]
    (panel,) = over_diversity(results)
    assert [shape(curve) for curve in panel.curves] == [("Fine-tune-CoT", [1, 2, 8])]
    assert [level.label for level in panel.levels] == ["8 1"]


def test_settings_that_datasets_or_students_decide_are_no_factors() -> None:
    results = [
        named(
            f"{task} {student} {degree} {rate}",
            task=task,
            student=student,
            diversity=degree,
            settings={
                "teacher.import": f"{task}.json",
                "train.batch": len(student),
                "train.learning_rate": rate,
            },
        )
        for task in ("svamp", "gsm8k")
        for student in ("gpt2", "gpt2-large")
        for degree in (1, 2)
        for rate in (1e-4, 3e-4)
    ]
    assert factors([row.condition for row in results]) == ["train.learning_rate"]
    first, _ = over_diversity(results)
    assert first.task == "gsm8k"
    assert [curve.label for curve in first.curves] == [
        "gpt2, learning_rate=0.0001",
        "gpt2, learning_rate=0.0003",
        "gpt2-large, learning_rate=0.0001",
        "gpt2-large, learning_rate=0.0003",
    ]


def test_other_axes() -> None:
    sizes = arms(grid(tasks=("svamp",), degrees=(1, 8), seeds=1))
    (panel,) = panels(sizes, lambda arm: arm.condition.parameters, ["student"])
    three = [124_439_808, 354_823_168, 774_030_080]
    assert [shape(curve) for curve in panel.curves] == [
        ("Zero-shot", three),
        ("Fine-tune", three),
        ("Fine-tune-CoT, D=1", three),
        ("Diverse reasoning, D=8", three),
    ]
    parts = arms(grid(tasks=("svamp",), students=("gpt2",), degrees=(1, 8), subsets=(8, 128, None), seeds=1))
    (panel,) = panels(parts, lambda arm: arm.condition.train_questions, ["subset"])
    assert [shape(curve) for curve in panel.curves] == [
        ("Fine-tune-CoT, D=1", [8, 128, 700]),
        ("Diverse reasoning, D=8", [8, 128, 700]),
    ]
    (panel,) = over_diversity(grid(("svamp",), ("gpt2",), (1, 8), (8, None), seeds=1))
    assert [curve.label for curve in panel.curves] == ["8 questions", "all questions"]
    teachers = arms(grid(("svamp",), ("gpt2",), (1,), teachers=("davinci", "text-davinci-002"), seeds=1))

    def accuracy(arm: ArmResult) -> float | None:
        return {"davinci": 10.0, "text-davinci-002": 64.0}.get(arm.condition.teacher or "")

    (panel,) = panels(teachers, accuracy, ["teacher"])
    assert [shape(curve) for curve in panel.curves] == [("Fine-tune-CoT", [10.0, 64.0])]


def test_too_few_places_make_no_curve() -> None:
    assert over_diversity(grid(degrees=(8,), seeds=1)) == []
    assert over_diversity([]) == []


def test_labels_say_only_what_differs() -> None:
    labels = Labels.of([condition()])
    assert labels.texts([labels.identity(condition())]) == ["Fine-tune-CoT"]
    pair = [condition(teacher="a"), condition(teacher="b", subset="8 questions")]
    assert labels.texts([labels.identity(one) for one in pair]) == [
        "teacher a, all questions",
        "teacher b, 8 questions",
    ]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (3_100, "3.1k"),
        (153_000, "153k"),
        (9_960_000, "10M"),
        (124_439_808, "124M"),
        (1.3e9, "1.3B"),
        (12, "12"),
    ],
)
def test_sizes_as_papers_write_them(count: float, text: str) -> None:
    assert size_text(count) == text


def test_datasets_in_the_papers_order_then_others() -> None:
    assert in_paper_order(["mine", "svamp", "single_eq", "mine", "another"]) == [
        "single_eq",
        "svamp",
        "mine",
        "another",
    ]
