"""What each cost grows with, measured: seconds and memory of stages, and seconds of a train step.

    python -m benchmarks.scaling all                     # every part in turn: under half an hour on two quiet cores
    python -m benchmarks.scaling records --most 100000   # without the largest sizes; figures are shown and not kept
    python -m benchmarks.scaling pages                   # pictures and tables again, from the figures kept

Parts are degree (D), records, trials, slots, devices and length. Every stage of every point is done in a process of
its own. Figures are kept in benchmarks/scaling.json, from which the pictures docs/scaling_*.png and the tables of
docs/performance.md are written.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.scaling.parts import SIZES, measure
from benchmarks.scaling.pictures import draw
from benchmarks.scaling.tables import table, write_tables

STORE = Path(__file__).parents[1] / "scaling.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["all", *SIZES, "pages"])
    parser.add_argument("--most", type=int, help="leave larger sizes out, and keep nothing")
    parser.add_argument("--folder", type=Path, help="where to work: a million records take 5 GB for a while")
    arguments = parser.parse_args()
    stored = json.loads(STORE.read_text(encoding="utf-8")) if STORE.exists() else {}
    for part in SIZES if arguments.part == "all" else [arguments.part]:
        if part == "pages":
            continue
        sizes = [size for size in SIZES[part] if arguments.most is None or size <= arguments.most]
        if not sizes:
            sys.exit(f"--most {arguments.most}: the smallest size of {part} is {min(SIZES[part])}")
        began = time.monotonic()
        points = measure(part, sizes, arguments.folder, lambda line: print(line, file=sys.stderr, flush=True))
        print(f"\n{part}, in {time.monotonic() - began:.0f} s\n\n{table(part, points)}", flush=True)
        if arguments.most is None:
            stored[part] = _here() | {"points": points}
            STORE.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    if arguments.most is None:
        for part, found in stored.items():
            draw(part, found["points"])
        write_tables(stored)


def _here() -> dict[str, Any]:
    """Where and when."""
    import jax

    return {
        "machine": f"{os.cpu_count()} cores, {_processor()}",
        "jax": jax.__version__,
        "date": datetime.date.today().isoformat(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.machine()


if __name__ == "__main__":
    main()
