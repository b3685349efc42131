"""How a figure is drawn: small multiples a dataset, 95% bands, colours and marks that eyes of all kinds tell apart."""

from __future__ import annotations

import dataclasses
import math
import textwrap
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from ftcot_jax.sweeps.conditions import task_title
from ftcot_jax.sweeps.curves import Curve, Panel, Point

# Okabe and Ito's colours without yellow, which is too pale on white; then the same with other lines and marks.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_LINES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
_DASHES: tuple[Any, ...] = ((0, (6, 3)), (0, (2, 2)), (0, (8, 2, 2, 2)), (0, (3, 5)))
_MARKS = ("o", "s", "^", "D", "v", "P", "X")
_PAPER_COLOUR, _PAPER_MARKS = "#8c8c8c", ("o", "s", "^", "D", "v", "P", "X", "<", ">")
_MOST_BANDS = 6  # curves whose bands lie over each other and can still be told apart
_MOST_LEVEL_BANDS = 3
_MOST_SEEDS_SHOWN = 6
_LONGEST_LABEL = 72
_INCH_A_CHARACTER, _INCH_A_LEGEND_ROW = 0.072, 0.21


@dataclasses.dataclass(frozen=True)
class Axis:
    """The x axis.

    Attributes:
      label: what it is.
      scale: of log2 and log10 the ticks are the places of points, as far as they have room.
      text: of a tick.
      diagonal: whether a line shows where x and y, both in per cent, are equal.
      bands: whether points have intervals.
    """

    label: str
    scale: Literal["log2", "log10", "linear"]
    text: Callable[[float], str]
    diagonal: bool = False
    bands: bool = True


@dataclasses.dataclass(frozen=True)
class _Look:
    colour: str
    line: Any
    mark: str


def draw(panels: Sequence[Panel], axis: Axis, title: str, stem: Path) -> None:
    """Writes `stem`.svg and `stem`.png."""
    style = plt.rc_context({"text.parse_math": False, "svg.hashsalt": "ftcot", "font.size": 9})
    with style, warnings.catch_warnings():
        # Names in scripts that matplotlib's font lacks are boxes here; tables have them in full.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure = _figure(panels, axis, title)
        for suffix in (".svg", ".png"):
            figure.savefig(stem.with_suffix(suffix), dpi=150, metadata={"Date": None} if suffix == ".svg" else None)
        plt.close(figure)


def _figure(panels: Sequence[Panel], axis: Axis, title: str) -> Figure:
    looks = _looks(panels)
    columns = min(len(panels), 3)
    rows = math.ceil(len(panels) / columns)
    each = (6.4, 3.7) if columns == 1 else (4.4, 3.2) if columns == 2 else (3.6, 2.9)
    width = columns * each[0]
    shown = {label: _short(label) for label in looks}
    legend_columns, legend_rows = _legend_shape(list(shown.values()), width)
    height = rows * each[1] + 0.35 + _INCH_A_LEGEND_ROW * legend_rows
    figure, grid = plt.subplots(rows, columns, figsize=(width, height), layout="constrained", squeeze=False)
    handles: dict[str, Any] = {}
    for place, axes in enumerate(grid.flat):
        if place >= len(panels):
            axes.set_visible(False)
            continue
        handles |= _draw_panel(axes, panels[place], axis, looks)
        if len(panels) > 1:
            axes.set_title(_short(task_title(panels[place].task)), fontsize=9)
        if place % columns == 0:
            axes.set_ylabel("held-out accuracy, %")
        if place + columns >= len(panels):
            axes.set_xlabel(axis.label)
    figure.suptitle(_wrap(title, width), fontsize=10)
    known = [label for label in looks if label in handles]
    # A leading space: a label that starts with an underscore would be left out.
    figure.legend(
        [handles[label] for label in known],
        [f" {shown[label]}" for label in known],
        loc="outside lower center",
        ncols=legend_columns,
        frameon=False,
        fontsize=8,
        handlelength=3.2,
    )
    return figure


def _looks(panels: Sequence[Panel]) -> dict[str, _Look]:
    """What each label looks like in all panels: curves, then levels, then the paper's.

    Where curves are of several students, a level has the colour of its student's.
    """
    curves = {curve.label: curve for panel in panels for curve in panel.curves if not curve.published}
    levels = {level.label: level for panel in panels for level in panel.levels}
    paper = dict.fromkeys(curve.label for panel in panels for curve in panel.curves if curve.published)
    looks = {label: _look(number) for number, label in enumerate(curves)}
    students = {curve.student: looks[label].colour for label, curve in reversed(curves.items())}
    dashes: dict[str, int] = {}
    for number, (label, level) in enumerate(levels.items(), len(curves)):
        look = _look(number)
        if len(students) > 1 and level.student in students:
            again = dashes[level.student] = dashes.get(level.student, -1) + 1
            look = _Look(students[level.student], _DASHES[again % len(_DASHES)], look.mark)
        else:
            look = _Look(look.colour, _DASHES[number // len(_COLOURS) % len(_DASHES)], look.mark)
        looks.setdefault(label, look)
    for number, label in enumerate(paper):
        looks[label] = _Look(_PAPER_COLOUR, (0, (4, 2)), _PAPER_MARKS[number % len(_PAPER_MARKS)])
    return looks


def _draw_panel(axes: Axes, panel: Panel, axis: Axis, looks: dict[str, _Look]) -> dict[str, Any]:
    """Draws one dataset; returns what stands for each label in a legend."""
    handles: dict[str, Any] = {}
    own = sum(not curve.published for curve in panel.curves)
    dense = own > _MOST_BANDS
    if own > 2 * _MOST_BANDS:  # intervals are in the tables
        axis = dataclasses.replace(axis, bands=False)
    if axis.scale == "log2":
        axes.set_xscale("log", base=2)
    elif axis.scale == "log10":
        axes.set_xscale("log", base=10)
    for curve in sorted(panel.curves, key=lambda curve: not curve.published):  # the paper's lie below
        handles[curve.label] = _draw_curve(axes, curve, axis, looks[curve.label], dense)
    for level in panel.levels:
        point, look = level.points[0], looks[level.label]
        handles[level.label] = axes.axhline(100 * point.accuracy, color=look.colour, ls=look.line, lw=1.3)
        if len(panel.levels) <= _MOST_LEVEL_BANDS:
            axes.axhspan(100 * point.low, 100 * point.high, color=look.colour, alpha=0.10, lw=0)
    _scale(axes, panel, axis)
    _name_points(axes, panel)
    axes.grid(alpha=0.25, lw=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    return handles


def _draw_curve(axes: Axes, curve: Curve, axis: Axis, look: _Look, dense: bool) -> Any:
    at = [point.x for point in curve.points]
    accuracies = [100 * point.accuracy for point in curve.points]
    many = len(at) > 12
    size, width = (3.4, 1.1) if curve.published or dense or many else (5.0, 1.6)
    above = 2 if curve.published else 3
    (line,) = axes.plot(
        at, accuracies, color=look.colour, ls=look.line, marker=look.mark, ms=size, lw=width, zorder=above
    )
    if axis.bands and not curve.published:
        low, high = [100 * point.low for point in curve.points], [100 * point.high for point in curve.points]
        if len(at) == 1:
            axes.vlines(at, low, high, color=look.colour, alpha=0.5, lw=1)
        else:
            axes.fill_between(at, low, high, color=look.colour, alpha=0.05 if dense else 0.16, lw=0)
        if not dense:
            for point in curve.points:
                if 1 < len(point.by_seed) <= _MOST_SEEDS_SHOWN:
                    seeds = [100 * value for value in point.by_seed]
                    axes.plot([point.x] * len(seeds), seeds, ".", color=look.colour, alpha=0.45, ms=5)
    return line


def _name_points(axes: Axes, panel: Panel) -> None:
    """Writes each name once: over the highest of the points that have it, ours before the paper's."""
    named: dict[str, tuple[bool, Point]] = {}
    for curve in sorted(panel.curves, key=lambda curve: curve.published):
        for point in curve.points:
            published, known = named.get(point.name, (curve.published, point))
            if point.name and published == curve.published and known.accuracy <= point.accuracy:
                named[point.name] = (published, point)
    for name, (published, point) in named.items():
        place, colour = (point.x, 100 * point.accuracy), _PAPER_COLOUR if published else "#333333"
        text = _short(name, 24)
        axes.annotate(text, place, (0, 6), textcoords="offset points", ha="center", fontsize=7, color=colour)


def _scale(axes: Axes, panel: Panel, axis: Axis) -> None:
    points = [point for curve in (*panel.curves, *panel.levels) for point in curve.points]
    top = 100 * max(max((point.high, *point.by_seed)) for point in points)
    axes.set_ylim(0, 104 if top > 85 else max(5.0, 1.12 * top))
    places = sorted({point.x for curve in panel.curves for point in curve.points})
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: axis.text(value)))
    if axis.scale == "linear":
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=not axis.diagonal))
    else:
        axes.set_xlim(places[0] / _margin(places), places[-1] * _margin(places))
        if len(places) <= 24:
            axes.xaxis.set_major_locator(FixedLocator(_apart(places)))
        else:
            axes.xaxis.set_major_locator(LogLocator(10, subs=(1.0, 3.0), numticks=6))
    if axis.diagonal:
        axes.axline((0, 0), slope=1, color="#bbbbbb", lw=0.8, zorder=1)
        room = 0.16 * (places[-1] - places[0])  # for the names
        axes.set_xlim(places[0] - room, places[-1] + room)


def _margin(places: Sequence[float]) -> float:
    """Room on both sides of a logarithmic axis, as a factor."""
    return max(1.08, (places[-1] / places[0]) ** 0.05)


def _apart(places: Sequence[float]) -> list[float]:
    """As many of the places as have room for their text."""
    span = math.log(places[-1] / places[0]) or 1.0
    found = [places[0]]
    for place in places[1:]:
        if math.log(place / found[-1]) / span >= 0.09:
            found.append(place)
    return found


def _look(number: int) -> _Look:
    again = number // len(_COLOURS)
    return _Look(_COLOURS[number % len(_COLOURS)], _LINES[again % len(_LINES)], _MARKS[(number + again) % len(_MARKS)])


def _legend_shape(labels: Sequence[str], width: float) -> tuple[int, int]:
    """Columns and rows of a legend below a figure of this width, in inches."""
    longest = max((len(label) for label in labels), default=1)
    columns = max(1, min(len(labels), int(width / (0.7 + _INCH_A_CHARACTER * longest))))
    return columns, math.ceil(len(labels) / columns)


def _short(label: str, longest: int = _LONGEST_LABEL) -> str:
    """A label of printable characters in one line, cut where it is too long."""
    text = "".join(sign if sign.isprintable() else "\ufffd" for sign in " ".join(label.split()))
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _wrap(title: str, width: float) -> str:
    """A title in as many lines as it needs."""
    return "\n".join(textwrap.wrap(_short(title, 400), int(width / 0.085)))
