"""The parts of the benchmark: what is measured for each, and at which sizes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.scaling import stages, steps
from benchmarks.scaling.finished_trials import write_finished
from benchmarks.scaling.made_data import RECIPE, write_study

Point = dict[str, Any]
Say = Callable[[str], None]

RATIONALES = 8  # of each question, where records grow
QUESTIONS = 1000  # where D grows
SIZES: dict[str, tuple[int, ...]] = {
    "records": (1_000, 10_000, 100_000, 1_000_000),
    "degree": (1, 2, 4, 8, 16, 32, 64),
    "trials": (8, 32, 128, 512),
    "slots": steps.SLOTS,
    "devices": steps.DEVICES,
    "length": steps.LENGTHS,
}
OF_RUN = ("import", "curate", "tokenize", "feed")
OF_SWEEP = ("plan", "report")


def measure(part: str, sizes: Sequence[int], folder: Path | None, say: Say) -> list[Point]:
    """The points of a part.

    Args:
      part: a key of SIZES.
      sizes: those of the part, or fewer.
      folder: where to work; default: the system's temporary folder. A million records take 5 GB of it.
      say: receives a line for each point.
    """
    if part in ("slots", "devices", "length"):
        return steps.measure(part, max(sizes))
    found: list[Point] = []
    with _workshop(folder) as place:
        if part == "trials":
            for count, recipe in zip(sizes, write_finished(place / "trials", tuple(sizes)), strict=True):
                found.append({"trials": count} | _staged(OF_SWEEP, recipe, say))
        else:
            for size in sizes:
                questions, degree = (QUESTIONS, size) if part == "degree" else (size // RATIONALES, RATIONALES)
                study = place / str(size)
                write_study(study, questions, degree)
                names = (*OF_RUN, "share") if part == "degree" else OF_RUN
                found.append({part: size, "pairs": questions * degree} | _staged(names, study / RECIPE, say))
                shutil.rmtree(study)
    return found


def _staged(names: Sequence[str], recipe: Path, say: Say) -> Point:
    point: Point = {}
    for name in names:
        point[name] = stages.measure(name, recipe)
        spent = [f"{key.removesuffix('_cpu')} {value:.2f} CPU s" for key, value in point[name].items() if "_cpu" in key]
        peak = f"peak {point[name]['peak_bytes'] / 2**20:.0f} MiB"
        say(f"{recipe.parent.name}/{recipe.name} {name}: {', '.join([*spent, peak])}")
    return point


@contextmanager
def _workshop(folder: Path | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=folder) as place:
        yield Path(place)


def costs(part: str) -> dict[str, tuple[str, str]]:
    """What has a cost in a part of stages: its title, to the process and the name of its figures there."""
    if part == "trials":
        return {"sweep plan": ("plan", "plan"), "report": ("report", "report")}
    return {
        "import": ("import", "import"),
        "judge and pair": ("curate", "curate"),
        "tokenize and write": ("tokenize", "tokenize"),
        "resume: read and select": ("feed", "select"),
        "resume: plan": ("feed", "plan"),
        "resume: first batch": ("feed", "first"),
        "feed an epoch": ("feed", "feed"),
    }
