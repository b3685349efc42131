"""The tables of the figures, and the places of docs/performance.md that they are written to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.page import PAGE, write_place
from benchmarks.scaling.fit import each, exponent
from benchmarks.scaling.parts import QUESTIONS, RATIONALES, Point, costs

MIB = 2**20
_AXIS = {"records": "records", "degree": "D", "trials": "trials"}


def table(part: str, points: Sequence[Point]) -> str:
    """The figures of a part as Markdown."""
    if part in ("slots", "devices", "length"):
        return _of_steps(part, points)
    return _of_stages(part, points)


def _of_stages(part: str, points: Sequence[Point]) -> str:
    sizes, named = [point.get("pairs", point[part]) for point in points], costs(part)
    one = "one more trial" if part == "trials" else "one more rationale"
    rows = [[_AXIS[part], *(f"{point[part]:,}" for point in points), "grows as", one]]
    for title, (process, name) in named.items():
        spent = [point[process][f"{name}_cpu"] for point in points]
        rows.append([f"{title}, CPU s", *(f"{seconds:.2f}" for seconds in spent), *_growth(sizes, spent, 1e6, "µs")])
    for process in dict.fromkeys(process for process, _ in named.values()):
        peaks = [point[process]["peak_bytes"] for point in points]
        cells = [f"{peak / MIB:.0f}" for peak in peaks]
        rows.append([f"{process}, peak MiB", *cells, "", _growth(sizes, peaks, 1 / 1024, "KiB")[1]])
    for name in points[0].get("share", {}):
        if name.startswith("spared_"):
            cells = [f"{100 * point['share'][name]:.1f}" for point in points]
            batch = name.removeprefix("spared_")
            rows.append([f"tokens spared by share_questions, batches of {batch}, %", *cells, "", ""])
    return _markdown(rows)


def _growth(sizes: Sequence[int], values: Sequence[float], unit: float, name: str) -> list[str]:
    if len(sizes) < 2:
        return ["", ""]
    return [f"n^{exponent(sizes, values):.2f}", f"{unit * each(sizes, values):.1f} {name}"]


def _of_steps(part: str, points: Sequence[Point]) -> str:
    """Milliseconds of a step, beside the first of the same kind, and operations a second."""
    kind = {"slots": "executor", "devices": "axis"}.get(part)
    rows = [
        [part, *([kind] if kind else []), "ms a step", "least to most", "times the first's", "GFLOP/s", "compiled in"]
    ]
    for point in points:
        first = next(one for one in points if kind is None or one[kind] == point[kind])
        rows.append(
            [
                str(point[part]),
                *([point[kind]] if kind else []),
                f"{1e3 * point['seconds']:.1f}",
                f"{1e3 * point['least']:.1f} to {1e3 * point['most']:.1f}",
                f"{point['seconds'] / first['seconds']:.2f}",
                f"{point['flops'] / point['seconds'] / 1e9:.1f}",
                f"{point['compile_seconds']:.1f} s",
            ]
        )
    return _markdown(rows)


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    head, *rest = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([head, "|" + "---|" * len(rows[0]), *rest])


_ABOUT = {
    "records": f"{RATIONALES} rationales a question, batches of 32.",
    "degree": f"{QUESTIONS:,} questions, D rationales each, batches of 32.",
    "trials": "Finished trials of four seeds an arm.",
    "slots": "All slots' step, 32 records a slot; one student fills this machine, so the ideal is as many times one's.",
    "devices": "Virtual CPU devices of one machine: weak scaling, a student (`trial`) or 32 records (`data`) more for "
    "each.",
    "length": "8,192 tokens a step, in records of one length.",
}


def write_tables(stored: dict[str, Any], page: Path = PAGE) -> None:
    """Writes the tables of the parts measured so far into their places."""
    for part, found in stored.items():
        about = f"{_ABOUT[part]} {found['machine']}, jax {found['jax']}, {found['date']}."
        shown = f"{about}\n\n{table(part, found['points'])}\n\n![{part}](scaling_{part}.png)"
        write_place(f"scaling {part}", shown, page)
