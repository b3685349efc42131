"""Pictures of the figures: costs over sizes with the ideal as a dashed line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from benchmarks.scaling.parts import Point, costs
from benchmarks.scaling.tables import MIB

FOLDER = Path(__file__).parents[2] / "docs"
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKS = "os^Dv<P"
_IDEAL: dict[str, Any] = {"color": "#666666", "ls": (0, (5, 3)), "lw": 1.3, "zorder": 1}
_LABELS = {
    "records": "records",
    "degree": "D, rationales a question",
    "trials": "finished trials",
    "slots": "slots",
    "devices": "virtual devices on one machine",
    "length": "tokens of a record (8,192 a step)",
}


def draw(part: str, points: Sequence[Point], folder: Path = FOLDER) -> Path:
    """Writes scaling_PART.png; returns its path."""
    with plt.rc_context({"font.size": 9}):
        if part in ("slots", "devices", "length"):
            figure, axes = plt.subplots(figsize=(5.6, 4.0), layout="constrained")
            _draw_steps(axes, part, points)
        else:
            figure, (left, right) = plt.subplots(1, 2, figsize=(9.6, 4.2), layout="constrained")
            _draw_seconds(left, part, points)
            _draw_memory(right, part, points)
        path = folder / f"scaling_{part}.png"
        figure.savefig(path, dpi=120)
        plt.close(figure)
    return path


def _draw_seconds(axes: Axes, part: str, points: Sequence[Point]) -> None:
    sizes = [point[part] for point in points]
    ends: list[float] = []
    for number, (title, (process, name)) in enumerate(costs(part).items()):
        spent = [point[process][f"{name}_cpu"] for point in points]
        axes.plot(sizes, spent, color=_COLOURS[number], marker=_MARKS[number], ms=4.5, lw=1.5, label=title)
        ends.append(spent[-1])
    top = 1.6 * max(ends)
    axes.plot(sizes, [top * size / sizes[-1] for size in sizes], **_IDEAL, label="ideal: in proportion")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_ylabel("CPU seconds")
    _finish(axes, part, sizes)


def _draw_memory(axes: Axes, part: str, points: Sequence[Point]) -> None:
    sizes = [point[part] for point in points]
    processes = list(dict.fromkeys(process for process, _ in costs(part).values()))
    for number, process in enumerate(processes):
        peaks = [point[process]["peak_bytes"] / MIB for point in points]
        axes.plot(sizes, peaks, color=_COLOURS[number], marker=_MARKS[number], ms=4.5, lw=1.5, label=process)
    base = min(point[process]["base_bytes"] for point in points for process in processes) / MIB
    axes.axhline(base, **_IDEAL, label="ideal: the program alone")
    axes.set_ylabel("peak memory of the process, MiB")
    if part == "records":  # over decades
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_ylim(0.7 * base, None)
    else:
        axes.set_ylim(0, 1.6 * max(point[process]["peak_bytes"] for point in points for process in processes) / MIB)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    _finish(axes, part, sizes)


def _draw_steps(axes: Axes, part: str, points: Sequence[Point]) -> None:
    kind = {"slots": "executor", "devices": "axis"}.get(part)
    names = list(dict.fromkeys(point[kind] for point in points)) if kind else [""]
    sizes = sorted({point[part] for point in points})
    for number, name in enumerate(names):
        own = [point for point in points if kind is None or point[kind] == name]
        unit = own[0]["seconds"]
        label = {"vmap": "vmap", "map": "map (one after another)", "trial": "trial: a student each"}.get(name)
        label = label or {"data": "data: 32 records each"}.get(name, "measured")
        at = [point[part] for point in own]
        low, high = [point["least"] / unit for point in own], [point["most"] / unit for point in own]
        axes.fill_between(at, low, high, color=_COLOURS[number], alpha=0.15, lw=0)
        axes.plot(
            at, [point["seconds"] / unit for point in own], color=_COLOURS[number], marker=_MARKS[number], label=label
        )
    if part == "length":
        first = points[0]["flops"]
        axes.plot(sizes, [point["flops"] / first for point in points], **_IDEAL, label="ideal: the model's arithmetic")
    else:
        axes.plot(sizes, sizes, **_IDEAL, label="ideal here: the same arithmetic a second, in proportion")
    if part == "devices":
        axes.axhline(1, color="#666666", ls=(0, (1, 2)), lw=1.3, label="ideal on as many real devices: flat")
    axes.set_yscale("log", base=2)
    axes.set_ylabel(f"seconds a step, beside {sizes[0]} " + {"length": "tokens"}.get(part, part.removesuffix("s")))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    _finish(axes, part, sizes)


def _finish(axes: Axes, part: str, sizes: Sequence[int]) -> None:
    axes.set_xscale("log", base=10 if part == "records" else 2)
    axes.set_xticks(sizes)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(_LABELS[part])
    axes.grid(alpha=0.25, lw=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
