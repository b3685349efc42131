"""The train step of the quickstart's student over slots, devices and sequence lengths.

    python -m benchmarks.scaling.steps slots|devices|length [--most N] [--repeats N]     # prints JSON

Each step is waited for; compiling and two steps of warming up do not count.
"""

from __future__ import annotations

import argparse
import importlib.resources
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

EXAMPLES = 32
SLOTS, EXECUTORS = (1, 2, 4, 8, 16), ("vmap", "map")
DEVICES, AXES = (1, 2, 4, 8), ("trial", "data")
LENGTHS, TOKENS = (128, 256, 512, 1024, 2048), 8192
_WARM = 2


def measure(part: str, most: int | None = None, repeats: int = 10) -> list[dict[str, Any]]:
    """The points of a part, measured in a process of its own, which sees as many devices as the part needs."""
    command = [sys.executable, "-m", "benchmarks.scaling.steps", part, "--repeats", str(repeats)]
    command += [] if most is None else ["--most", str(most)]
    flags = f"--xla_force_host_platform_device_count={max(DEVICES) if part == 'devices' else 1}"
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    points: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return points


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("slots", "devices", "length"))
    parser.add_argument("--most", type=int)
    parser.add_argument("--repeats", type=int, default=10)
    arguments = parser.parse_args()
    found: list[dict[str, Any]] = []
    repeats = arguments.repeats
    for size in {"slots": SLOTS, "devices": DEVICES, "length": LENGTHS}[arguments.part]:
        if arguments.most is not None and size > arguments.most:
            continue
        if arguments.part == "slots":
            found += [
                {"slots": size, "executor": name, **step(size, executor=name, repeats=repeats)} for name in EXECUTORS
            ]
        elif arguments.part == "devices":
            found.append({"devices": size, "axis": "trial", **step(size, mesh={"trial": size}, repeats=repeats)})
            more = EXAMPLES * size
            found.append({"devices": size, "axis": "data", **step(1, "map", {"data": size}, more, repeats=repeats)})
        else:
            found.append({"length": size, **step(1, examples=TOKENS // size, length=size, repeats=repeats)})
    print(json.dumps(found))


def step(
    slots: int,
    executor: str = "map",
    mesh: dict[str, int] | None = None,
    examples: int = EXAMPLES,
    length: int | None = None,
    repeats: int = 10,
) -> dict[str, float]:
    """One step of all slots.

    Args:
      slots: students.
      executor: how they are computed.
      mesh: devices along its axes; default: one.
      examples: records a student and step.
      length: tokens of every record, half of them labels; default: as the quickstart's are.
      repeats: steps that count.

    Returns:
      Median, quickest and slowest seconds, seconds until compiled, and the operations that the model needs.
    """
    import jax
    import numpy as np

    from ftcot_jax.records.batch import host_table, stack_batches
    from ftcot_jax.records.plan import Planner, TrialData
    from ftcot_jax.students.load import load_student
    from ftcot_jax.students.settings import StudentSettings
    from ftcot_jax.tasks.weekday import vocabulary
    from ftcot_jax.training.agreement import on_all
    from ftcot_jax.training.flops import StepFlops
    from ftcot_jax.training.mesh import make_mesh
    from ftcot_jax.training.optimizer import Hyper
    from ftcot_jax.training.settings import MeshSettings, TrainSettings
    from ftcot_jax.training.slots import empty_slots, refill
    from ftcot_jax.training.step import make_train_step, new_state

    settings = _student(length)
    student = load_student(StudentSettings.model_validate(settings), vocabulary())
    laid = make_mesh(MeshSettings.model_validate(mesh or {}), jax.devices()[: max((mesh or {"trial": 1}).values())])
    table, hyper = _records(student.config.vocab_size, 4 * examples, length), Hyper.of(TrainSettings(), 1000)
    trials = [TrialData(np.arange(len(table)), seed, examples) for seed in range(slots)]
    shared = laid.shape["data"]
    planner = Planner.for_trials(table, trials, width=student.config.hidden_size, row_multiple=shared)
    state = empty_slots(jax.eval_shape(new_state, student.shapes, hyper), slots, laid, student.sharding_rules)
    for slot in range(slots):
        state = refill(state, slot, new_state(student.init(jax.random.key(slot)), hyper))
    shape = planner.shapes[-1]  # all steps in one shape, a row each of the longest record
    advance, on_device = make_train_step(student, laid, executor), on_all(laid, host_table(table))
    taken = []
    for number in range(1 + _WARM + repeats):
        planned = on_all(laid, stack_batches([planner.batches(trial.at(number))[shape] for trial in trials]))
        began = time.perf_counter()
        state, _ = advance(state, on_device, planned, shape)
        jax.block_until_ready(state)
        taken.append(time.perf_counter() - began)
    counted = taken[1 + _WARM :]
    chosen = trials[0].at(0)
    flops = StepFlops.of(student.shapes_by_path, jax.eval_shape(student.head, student.shapes).shape)
    return {
        "seconds": statistics.median(counted),
        "least": min(counted),
        "most": max(counted),
        "compile_seconds": taken[0],
        "flops": slots * flops.total(table.lengths[chosen][:, None], table.label_lengths[chosen]),
    }


def _student(length: int | None) -> dict[str, Any]:
    """The quickstart's, with room for records of this length."""
    from ftcot_jax.recipe_file import read_recipe

    file = importlib.resources.files("ftcot_jax.recipes") / "quickstart.yaml"
    settings: dict[str, Any] = read_recipe(str(file))["student"]
    if length is not None:
        settings["scratch"]["max_position_embeddings"] = length
    return settings


def _records(vocabulary: int, count: int, length: int | None) -> Any:
    """Random tokens: records of one length, or of the lengths that the quickstart's have."""
    import numpy as np

    from ftcot_jax.records.table import RecordTable

    rng = np.random.default_rng(0)
    prompts = rng.integers(16, 19, count) if length is None else np.full(count, length // 2)
    lengths = prompts + (rng.integers(19, 28, count) if length is None else length - length // 2)
    tokens = rng.integers(2, vocabulary, int(lengths.sum()), dtype=np.int32)
    return RecordTable.of(tokens, lengths, prompts, np.arange(count), np.zeros(count, int), np.ones(count, bool))


if __name__ == "__main__":
    main()
