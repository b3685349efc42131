"""A sweep in one pool beside the same trials run one process each, on the quickstart's task and student.

    python -m benchmarks.sweep --out DIR [--arms 6] [--seeds 3] [--steps 400] [--compile-each]

Eighteen trials: answers only and Fine-tune-CoT with D = 1, 2, 4, 8, 16, three seeds each; fewer arms, fewer trials.
First all of them by one `ftcot run`, which ends with the report; then each by a `ftcot sweep run` of its own in a
folder of its own, one after another. Both begin with no compiled program; those run alone share what is compiled from
then on, as they do on one machine with a compile cache, or with --compile-each share nothing. Both sides' accuracies
are compared, trial by trial: a trial alone is packed into other shapes, so they are equal to rounding only.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ARMS = {"answers only": None, "CoT D=1": 1, "CoT D=2": 2, "CoT D=4": 4, "CoT D=8": 8, "CoT D=16": 16}
RECIPE = Path(__file__).parents[1] / "ftcot_jax" / "recipes" / "quickstart.yaml"


def overrides(names: list[str], seeds: int, steps: int) -> list[str]:
    """The quickstart with these arms."""
    degrees = [ARMS[name] for name in names]
    templates = ["ft_token" if degree is None else "ft_cot_token" for degree in degrees]
    arms = {"arm": names, "template": templates, "select.diversity": degrees}
    axes = [arms, {"seed": list(range(31, 31 + seeds))}]
    return ["name=d_sweep", "teacher.diversity=16", f"train.steps={steps}", f"sweep.axes={json.dumps(axes)}"]


def ftcot(command: list[str], given: list[str], out: Path, cache: Path) -> float:
    """Runs it with an environment of its own; returns wall seconds."""
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    program = [sys.executable, "-c", "from ftcot_jax.launch import main; main()"]
    began = time.monotonic()
    done = subprocess.run(
        [*program, *command, str(RECIPE), *given, "--out", str(out)], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return time.monotonic() - began


def accuracies(*folders: Path) -> dict[str, float]:
    """Of each trial, by its name."""
    rows = [json.loads(file.read_text()) for folder in folders for file in (folder / "results").glob("*.json")]
    return {row["name"]: row["scores"]["accuracy"] for row in rows}


def steps_compiled(cache: Path) -> int:
    """Train steps that were compiled: one for each shape of batch of each group."""
    return sum(re.match(r"jit_step-.*-cache$", path.name) is not None for path in cache.iterdir())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a folder that is not there yet")
    parser.add_argument("--arms", type=int, default=len(ARMS), choices=range(1, len(ARMS) + 1), help="how many")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--compile-each", action="store_true", help="trials alone share no compiled program")
    arguments = parser.parse_args()
    if arguments.out.exists():
        sys.exit(f"{arguments.out} is there already; give another --out")
    names = list(ARMS)[: arguments.arms]
    given = overrides(names, arguments.seeds, arguments.steps)
    pool, caches = arguments.out / "pool", arguments.out / "compiled"
    together = ftcot(["run"], given, pool, caches / "pool")
    print(
        f"one pool: {together:.1f} s, report included; {steps_compiled(caches / 'pool')} train steps compiled",
        flush=True,
    )
    folders, alone = [], 0.0
    for seed in range(31, 31 + arguments.seeds):
        for arm in names:
            folders.append(arguments.out / f"alone-{len(folders)}")
            only = json.dumps({"arm": arm, "seed": seed})
            cache = caches / (folders[-1].name if arguments.compile_each else "alone")
            seconds = ftcot(["sweep", "run"], [*given, f"sweep.only={only}"], folders[-1], cache)
            alone += seconds
            print(f"{arm}, seed {seed}, alone: {seconds:.1f} s", flush=True)
    ours, theirs = accuracies(pool), accuracies(*folders)
    differ = [name for name in ours if ours[name] != theirs[name]]
    print(f"{len(folders)} trials, one process each: {alone:.1f} s; in one pool {alone / together:.2f} times as fast")
    print(f"accuracy differs in {len(differ)} of {len(ours)} trials{': ' if differ else ''}{', '.join(differ)}")
    shutil.rmtree(caches)


if __name__ == "__main__":
    main()
