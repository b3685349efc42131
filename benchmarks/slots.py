"""Slots of a small student: one batched computation against one after another, and a pool beside separate runs.

    python -m benchmarks.slots [--width 128] [--steps 200] [--json FILE]

The first table is the step alone, compiled before; the second is whole processes, start-up and compilation included:
the trials in one pool of as many slots, in one pool of one slot, and each in a process of its own, one after another.
Records are random tokens, as many a record as the quickstart's have.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ftcot_jax.records.batch import device_table, stack_batches
from ftcot_jax.records.plan import Planner, TrialData
from ftcot_jax.records.table import RecordTable
from ftcot_jax.students.load import load_student
from ftcot_jax.students.settings import StudentSettings
from ftcot_jax.students.student import Student
from ftcot_jax.training.mesh import make_mesh
from ftcot_jax.training.optimizer import Hyper
from ftcot_jax.training.pool import Pool, PoolOptions
from ftcot_jax.training.settings import CheckpointSettings, MeshSettings, TrainSettings
from ftcot_jax.training.slots import empty_slots, refill
from ftcot_jax.training.step import Executor, make_train_step, new_state
from ftcot_jax.training.trial import Look, Looked, Trial

SLOTS, EXECUTORS, TRIALS = (1, 2, 4, 8), ("vmap", "map"), 8
VOCABULARY, RECORDS, EXAMPLES = 64, 512, 32


def small_student(width: int) -> Student:
    """A Llama of the quickstart's proportions."""
    fields = {
        "model_type": "llama",
        "hidden_size": width,
        "intermediate_size": width * 11 // 4,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 128,
        "vocab_size": VOCABULARY,
    }
    return load_student(StudentSettings(scratch=fields), ["a", "word"])


def random_records() -> RecordTable:
    rng = np.random.default_rng(0)
    return RecordTable.from_rows(
        [
            {
                "input_ids": rng.integers(1, VOCABULARY, rng.integers(12, 20)),
                "label_ids": rng.integers(1, VOCABULARY, rng.integers(16, 40)),
                "sample_index": number,
                "completion_index": 0,
                "correct": True,
            }
            for number in range(RECORDS)
        ]
    )


def data_of(seed: int) -> TrialData:
    return TrialData(np.arange(RECORDS), seed, EXAMPLES)


def hyper_of(seed: int, steps: int) -> Hyper:
    return Hyper.of(TrainSettings(learning_rate=1e-3 * (1 + seed), schedule="cosine", seed=seed), steps)


def step_seconds(student: Student, slots: int, executor: Executor, repeats: int) -> float:
    """Median seconds of a step of all slots."""
    table, mesh = random_records(), make_mesh(MeshSettings())
    planner = Planner.for_trials(table, [data_of(seed) for seed in range(slots)], width=student.config.hidden_size)
    states = [new_state(student.init(jax.random.key(seed)), hyper_of(seed, repeats)) for seed in range(slots)]
    state = empty_slots(states[0], slots, mesh, student.sharding_rules)
    for slot, one in enumerate(states):
        state = refill(state, slot, one)
    advance, on_device, taken = make_train_step(student, mesh, executor), device_table(table), []
    for number in range(-3, repeats):  # the first three compile and warm up
        planned = [planner.batch(data_of(seed).at(max(number, 0)))[0] for seed in range(slots)]
        began = time.monotonic()
        state, _ = advance(state, on_device, stack_batches(planned), planner.shapes[-2])
        jax.block_until_ready(state)
        taken.append(time.monotonic() - began)
    return statistics.median(taken[3:])


class Quiet:
    """Listens to a pool and keeps nothing."""

    def look(self, due: Sequence[Look], params_S: Any) -> Looked:
        return Looked()

    def keep(self, trial: Trial, step: int, params: Any) -> None: ...

    def finished(self, trial: Trial, step: int, params: Any, summary: dict[str, Any]) -> None: ...

    def failed(self, trial: Trial, reason: str) -> None:
        raise RuntimeError(f"{trial.name}: {reason}")

    def progress(self, trial: Trial, step: int, row: dict[str, Any]) -> None: ...


def run_pool(width: int, steps: int, seeds: list[int], slots: int, executor: Executor) -> None:
    """What a process of its own does."""
    student = small_student(width)
    trials = [
        Trial(
            key=str(seed),
            name=str(seed),
            data=data_of(seed),
            hyper=hyper_of(seed, steps),
            steps=steps,
            initial=lambda seed=seed: student.init(jax.random.key(seed)),
            looks=frozenset(),
        )
        for seed in seeds
    ]
    with tempfile.TemporaryDirectory() as folder:
        options = PoolOptions(slots, executor, CheckpointSettings(), Path(folder), None)
        Pool(student, "bench", random_records(), trials, make_mesh(MeshSettings()), options, Quiet(), print).run()


def process_seconds(width: int, steps: int, seeds: list[int], slots: int, executor: Executor) -> float:
    """Wall seconds of a new process that trains these trials."""
    call = f"from benchmarks.slots import run_pool; run_pool({width}, {steps}, {seeds}, {slots}, {executor!r})"
    environment = {key: value for key, value in os.environ.items() if key != "JAX_COMPILATION_CACHE_DIR"}
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", call], check=True, env=environment)
    return time.monotonic() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--steps", type=int, default=200, help="of each trial of the second table")
    parser.add_argument("--repeats", type=int, default=20, help="steps timed for the first table")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    student = small_student(arguments.width)

    print("| slots | " + " | ".join(f"{name}, ms a step | {name}, examples/s" for name in EXECUTORS) + " |")
    print("|---" * (1 + 2 * len(EXECUTORS)) + "|")
    steps: dict[str, dict[int, float]] = {name: {} for name in EXECUTORS}
    for slots in SLOTS:
        for name in EXECUTORS:
            steps[name][slots] = step_seconds(student, slots, name, arguments.repeats)
        cells = [f"{1e3 * taken[slots]:.1f} | {slots * EXAMPLES / taken[slots]:.0f}" for taken in steps.values()]
        print(f"| {slots} | " + " | ".join(cells) + " |", flush=True)

    def whole(seeds: list[int], slots: int, executor: Executor) -> float:
        return process_seconds(arguments.width, arguments.steps, seeds, slots, executor)

    trials = list(range(TRIALS))
    runs = {
        f"one process, {TRIALS} slots, vmap": whole(trials, TRIALS, "vmap"),
        f"one process, {TRIALS} slots, map": whole(trials, TRIALS, "map"),
        f"one process, {TRIALS} trials through 1 slot": whole(trials, 1, "map"),
        f"{TRIALS} processes, one after another": sum(whole([seed], 1, "map") for seed in trials),
    }
    print(f"\n| {TRIALS} trials of {arguments.steps} steps | s | students an hour |\n|---|---|---|")
    for name, seconds in runs.items():
        print(f"| {name} | {seconds:.1f} | {3600 * TRIALS / seconds:.0f} |")
    if arguments.json:
        arguments.json.write_text(json.dumps({"step_seconds": steps, "process_seconds": runs}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
