"""One stage of a run, done once in a process of its own: its seconds, and the most memory the process had.

python -m benchmarks.scaling.stages STAGE RECIPE     # prints JSON; RECIPE as `made_data.write_study` writes it
"""

from __future__ import annotations

import functools
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

STAGES = ("import", "curate", "tokenize", "feed", "share", "plan", "report")
BATCHES = (8, 64, 512)  # whose shared questions are counted


def measure(stage: str, recipe: Path) -> dict[str, float]:
    """Does a stage in a fresh process.

    Returns:
      Seconds and CPU seconds of the stage or its parts, and bytes: `base` before it, `peak` at most.
    """
    command = [sys.executable, "-m", "benchmarks.scaling.stages", stage, str(recipe)]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def peak_bytes() -> int:
    """The most memory this process had so far, mapped files included.

    Linux counts ru_maxrss on from the process that forked this one; its own figure begins where this program does.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


class Clock:
    """Takes the time of the parts of a stage."""

    def __init__(self) -> None:
        self.found: dict[str, float] = {}

    def timed(self, name: str, act: Callable[[], Any]) -> Any:
        wall, cpu = time.perf_counter(), time.process_time()
        result = act()
        self.found[f"{name}_seconds"] = time.perf_counter() - wall
        self.found[f"{name}_cpu"] = time.process_time() - cpu
        return result


def perform(stage: str, file: str) -> dict[str, float]:
    """Does a stage in this process; returns as `measure`."""
    # Imported here, before the clock starts: the process that only measures others needs none of it.
    import numpy as np

    from ftcot_jax.config import load_recipe
    from ftcot_jax.records.plan import Planner, TrialData
    from ftcot_jax.stages import data
    from ftcot_jax.stages.place import Place, run_folder
    from ftcot_jax.stages.report import report_of
    from ftcot_jax.stages.sweep_plan import plan_sweep
    from ftcot_jax.stages.trials import prepare_one
    from ftcot_jax.sweeps.devices import named_device
    from ftcot_jax.training.input import Streamed

    recipe, specs = load_recipe(file, [])
    place = Place(run_folder(recipe), lambda line: None)
    place.student(recipe)
    clock = Clock()
    clock.found["base_bytes"] = peak_bytes()
    if stage == "import":
        clock.timed("import", lambda: data.collect_completions(place, recipe))
    elif stage == "curate":
        clock.timed("curate", lambda: data.curate(place, recipe))
    elif stage == "tokenize":
        clock.timed("tokenize", lambda: data.tokenize(place, recipe))
    elif stage == "feed":  # as a run that is resumed in the middle, then one that takes a whole epoch
        job = clock.timed("select", lambda: prepare_one(place, specs[0]))
        plan = functools.partial(Planner.for_trials, job.records.table, [job.data], width=16, kind="decoder")
        planner = clock.timed("plan", plan)

        def feed(first: int, end: int) -> int:
            given = Streamed(job.records.table, planner, [job.data], 1)
            given.seat(0, job.data, first, end)
            tokens = sum(int(np.sum(given.next().table.length)) for _ in range(first, end))
            given.close()
            return tokens

        clock.timed("first", lambda: feed(job.steps // 2, job.steps // 2 + 1))
        clock.found["tokens"] = clock.timed("feed", lambda: feed(0, job.steps))
        clock.found["steps"] = job.steps
    elif stage == "share":
        job = prepare_one(place, specs[0])
        for examples in BATCHES:
            trial = TrialData(job.data.records, job.seed, examples)
            planner = Planner.for_trials(job.records.table, [trial], width=16, share_questions=True)
            clock.found[f"spared_{examples}"] = planner.efficiency(trial).shared
    elif stage == "plan":
        device = named_device("v5e", 4)
        clock.timed("plan", lambda: plan_sweep(recipe, specs, device, 0.4))
    elif stage == "report":
        clock.timed("report", lambda: report_of(file, [], None))
    else:
        raise ValueError(f"{stage}: not one of {', '.join(STAGES)}")
    clock.found["peak_bytes"] = peak_bytes()
    return clock.found


def main() -> None:
    print(json.dumps(perform(*sys.argv[1:])))


if __name__ == "__main__":
    main()
