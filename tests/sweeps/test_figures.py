"""The report's figures, drawn: axes, legends beside the data, nothing cut off, and the paper's curves beside ours."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib.colors
import matplotlib.pyplot as plt
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ftcot_jax.sweeps import drawing, overlay
from ftcot_jax.sweeps.curves import Panel
from ftcot_jax.sweeps.figures import draw_figures
from ftcot_jax.sweeps.results import arms
from tests.sweeps.cases import condition, grid, trial

ALL = ["diversity", "questions", "size", "teacher", "epochs", "dollars", "chip_seconds"]
HOSTILE = "$x^2$ _under <b>&amp;</b> \x00\u202e " + "long " * 40


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Figure]]:
    """Every figure that is drawn, by the label of its x axis."""
    figures: dict[str, Figure] = {}
    made = drawing._figure

    def keep(panels: Any, axis: drawing.Axis, title: str) -> Figure:
        figures[axis.label] = made(panels, axis, title)
        return figures[axis.label]

    monkeypatch.setattr(drawing, "_figure", keep)
    yield figures
    plt.close("all")


def over_d(figures: dict[str, Figure]) -> Figure:
    return next(figure for label, figure in figures.items() if label.startswith("diversity"))


def legend(figure: Figure) -> list[str]:
    return [text.get_text().strip() for text in figure.legends[0].get_texts()]


def assert_nothing_covers_or_leaves(figure: Figure) -> None:
    """The legend is beside the axes and their labels, and every text is inside the figure."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    whole, box = figure.bbox, figure.legends[0].get_window_extent(renderer)
    texts = [
        text for axes in figure.axes if axes.get_visible() for text in (axes.xaxis.label, axes.yaxis.label, axes.title)
    ]
    for axes in figure.axes:
        if axes.get_visible():
            assert not axes.get_window_extent(renderer).overlaps(box)
            low, high = axes.get_xlim()
            ticks = zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
            texts += [*(text for at, text in ticks if low <= at <= high), *axes.texts]
    assert figure._suptitle is not None  # type: ignore[attr-defined]
    for text in [*texts, *figure.legends[0].get_texts(), figure._suptitle]:  # type: ignore[attr-defined]
        extent = text.get_window_extent(renderer)
        if text.get_text():
            assert whole.x0 - 1 <= extent.x0 <= extent.x1 <= whole.x1 + 1, text
            assert whole.y0 - 1 <= extent.y0 <= extent.y1 <= whole.y1 + 1, text
    for text in texts:
        assert not text.get_text() or not text.get_window_extent(renderer).overlaps(box), text


def test_every_figure_as_svg_and_png(tmp_path: Path, drawn: dict[str, Figure]) -> None:
    results = grid(degrees=(1, 8), subsets=(8, None), teachers=("davinci", "text-davinci-002"), seeds=2)
    accuracies = {"davinci": 0.2, "text-davinci-002": 0.7}
    teachers = {(name, task): value for name, value in accuracies.items() for task in ("svamp", "multiarith")}
    figures = draw_figures(arms(results), teachers, "three students", tmp_path)
    assert [figure.name for figure in figures] == [f"accuracy_over_{name}" for name in ALL]
    for figure in figures:
        assert (tmp_path / f"{figure.name}.svg").read_text().startswith("<?xml")
        assert (tmp_path / f"{figure.name}.png").read_bytes()[:4] == b"\x89PNG"
    assert len(drawn) == len(ALL)
    for one in drawn.values():
        assert_nothing_covers_or_leaves(one)
    scales = [figure.axes[0].get_xscale() for figure in drawn.values()]
    assert scales == ["log", "log", "log", "linear", "linear", "log", "log"]


def test_d_has_a_log_2_axis_with_bands_and_levels(tmp_path: Path, drawn: dict[str, Figure]) -> None:
    draw_figures(arms(grid()), {}, "three students", tmp_path)
    axes = over_d(drawn).axes[0]
    assert axes.xaxis.get_transform().base == 2  # type: ignore[attr-defined]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "2", "4", "8", "16", "32", "64"]
    assert len(axes.collections) == 3  # a band a student
    assert legend(over_d(drawn)) == [
        *("gpt2", "gpt2-medium", "gpt2-large"),
        *(
            f"{method}, {student}"
            for student in ("gpt2", "gpt2-medium", "gpt2-large")
            for method in ("Fine-tune", "Zero-shot")
        ),
        *(f"paper: GPT-2 {size}" for size in ("124M", "355M", "774M")),
    ]


def test_many_arms_can_be_told_apart(tmp_path: Path, drawn: dict[str, Figure]) -> None:
    rates = [round(1e-4 * number, 5) for number in range(1, 25)]
    results = [
        trial(
            f"{rate} {degree}",
            0,
            [1] * (10 + number) + [0] * 30,
            condition=condition(task="weekday_tracking", diversity=degree, settings={"train.learning_rate": rate}),
        )
        for number, rate in enumerate(rates)
        for degree in (1, 8)
    ]
    draw_figures(arms(results), {}, "24 learning rates", tmp_path)
    figure = over_d(drawn)
    lines = figure.axes[0].get_lines()
    assert len(lines) == len(legend(figure)) == 24
    assert (
        len({(line.get_color(), line.get_linestyle(), str(line._dash_pattern), line.get_marker()) for line in lines})
        == 24
    )  # type: ignore[attr-defined]
    assert_nothing_covers_or_leaves(figure)


def test_neighbouring_colours_differ_to_all_eyes() -> None:
    """Machado et al. 2009, severity 1.0: red, green and blue blindness."""
    matrices = [
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
    ]
    colours = [matplotlib.colors.to_rgb(colour) for colour in drawing._COLOURS]
    for matrix in matrices:
        seen = [tuple(sum(a * b for a, b in zip(row, colour, strict=True)) for row in matrix) for colour in colours]
        for first, second in itertools.pairwise(seen):
            assert sum((a - b) ** 2 for a, b in zip(first, second, strict=True)) ** 0.5 > 0.15


def test_hostile_and_long_names_are_drawn_as_they_are(tmp_path: Path, drawn: dict[str, Figure]) -> None:
    results = [
        dataclasses.replace(row, arm=f"_{number} {HOSTILE}", name=HOSTILE)
        for number, row in enumerate(grid(("weekday_tracking",), ("gpt2",), (1, 8), seeds=1))
    ]
    draw_figures(arms(results), {}, HOSTILE, tmp_path)
    assert len(legend(over_d(drawn))) == 3
    assert legend(over_d(drawn))[1].startswith("_2 $x^2$ _under <b>")
    assert_nothing_covers_or_leaves(over_d(drawn))
    svg = (tmp_path / "accuracy_over_diversity.svg").read_text()
    assert "<b>" not in svg.replace("<!--", "").split("<style")[0]


def test_a_report_that_has_a_figure_no_more_removes_it(tmp_path: Path) -> None:
    draw_figures(arms(grid(("svamp",), ("gpt2",), (1, 8), seeds=1)), {}, "t", tmp_path)
    assert (tmp_path / "accuracy_over_diversity.png").exists()
    draw_figures(arms(grid(("svamp",), ("gpt2",), (8,), seeds=1)), {}, "t", tmp_path)
    assert not (tmp_path / "accuracy_over_diversity.png").exists()


def published(panels: list[Panel]) -> dict[str, list[tuple[float, float]]]:
    curves = [curve for panel in panels for curve in panel.curves if curve.published]
    return {curve.label: [(point.x, round(100 * point.accuracy, 2)) for point in curve.points] for curve in curves}


def test_the_papers_d_curve_of_a_student_alike() -> None:
    """PAPER.md 6e: GPT-2 S on MultiArith."""
    small = condition()
    found = published(overlay.over_diversity([Panel("multiarith", ())], [small]))
    values = [8.33, 11.11, 9.44, 12.78, 16.11, 15.56, 17.78]
    assert found == {"paper: GPT-2 124M": list(zip([1, 2, 4, 8, 16, 32, 64], values, strict=True))}
    assert published(overlay.over_diversity([Panel("weekday_tracking", ())], [small])) == {}
    assert published(overlay.over_diversity([Panel("coin_flip", ())], [small])) == {}


@pytest.mark.parametrize(
    ("family", "parameters", "alike"),
    [
        ("GPT-2", 124_439_808, [("gpt2", "124M")]),
        ("T5", 60_506_624, [("t5", "60M")]),
        ("Flan-T5", 783_150_080, [("flan-t5", "700M")]),
        ("Llama", 134_515_008, [("gpt2", "124M")]),  # SmolLM2-135M
        ("GPT-3", 6_700_000_000, [("gpt3", "6.7B")]),
        ("Llama", 153_000, []),
        ("Llama", 7_000_000_000, []),
        ("API", None, []),
    ],
)
def test_which_of_the_papers_students_is_alike(
    family: str, parameters: int | None, alike: list[tuple[str, str]]
) -> None:
    assert overlay.comparable([condition(family=family, parameters=parameters)]) == alike


def test_the_papers_other_curves() -> None:
    """PAPER.md 6f, 6d and 6g."""
    ours = [condition(), condition(method="Fine-tune", diversity=None)]
    found = published(overlay.over_questions([Panel("multiarith", ())], ours))
    assert found == {
        "paper: GPT-3 6.7B, Fine-tune": [(8, 0.6), (32, 6.67), (128, 8.33), (420, 15.0)],
        "paper: GPT-3 6.7B, Fine-tune-CoT": [(8, 1.11), (32, 12.22), (128, 18.89), (420, 33.33)],
    }
    found = published(overlay.over_sizes([Panel("svamp", ())], ours))
    assert found == {
        "paper: GPT-2, Fine-tune": [(124e6, 10.33), (355e6, 12.0), (774e6, 10.0)],
        "paper: GPT-2, Fine-tune-CoT": [(124e6, 4.33), (355e6, 7.33), (774e6, 6.0)],
    }
    found = published(overlay.over_teachers([Panel("date_understanding", ())]))
    assert found == {"paper: GPT-3 6.7B, Fine-tune-CoT": [(23.0, 9.91), (52.0, 58.56), (67.58, 60.36), (72.6, 74.77)]}
