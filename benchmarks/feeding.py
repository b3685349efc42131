"""The share of time a training step waits for its records, kept on the device and streamed to it.

    python -m benchmarks.feeding [--width 64 --layers 2] [--steps 200] [--records 20000] [--examples 8 | --tokens N]

Trains a GPT-2 with random weights on records of random tokens, whose lengths are like rationales'. The records lie in
a temporary folder, mapped as a training run maps them. Prints a line for each input: steps a second after the first
step of each shape, and the share of that time in which the device had nothing to do but wait for the next batch.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from etils import epath

from ftcot_jax.records.builder import read_records, write_records
from ftcot_jax.records.manifest import Made
from ftcot_jax.records.plan import TokenBudget, TrialData
from ftcot_jax.records.table import RecordTable
from ftcot_jax.students.load import load_student
from ftcot_jax.students.settings import StudentSettings
from ftcot_jax.training.mesh import make_mesh
from ftcot_jax.training.optimizer import Hyper
from ftcot_jax.training.pool import Pool, PoolOptions
from ftcot_jax.training.settings import CheckpointSettings, MeshSettings, TrainSettings
from ftcot_jax.training.trial import Look, Looked, Trial

VOCABULARY = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("width", 64), ("layers", 2), ("steps", 200), ("records", 20_000), ("examples", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--tokens", type=int)
    arguments = parser.parse_args()
    fields = {"model_type": "gpt2", "n_embd": arguments.width, "n_layer": arguments.layers}
    fields |= {"n_head": max(1, arguments.width // 64), "n_positions": 1024}
    words = [f"word{number}" for number in range(VOCABULARY)]
    student = load_student(StudentSettings(scratch=fields, dropout=False), words)
    size = sum(leaf.size for leaf in jax.tree.leaves(student.shapes))
    print(f"{size / 1e6:.1f} M parameters, {arguments.records} records, {jax.devices()[0].device_kind}")
    print("| input | steps a second | waiting, % |\n|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        write_records(
            epath.Path(folder) / "records", random_records(arguments.records), Made(tokenizer="", template={})
        )
        table = read_records(epath.Path(folder) / "records")
        for where in ("device", "stream"):
            data = plan(table, arguments.examples, arguments.tokens)
            hyper = Hyper.of(TrainSettings(), arguments.steps)
            trial = Trial(
                where, where, data, hyper, arguments.steps, lambda: student.init(jax.random.key(0)), frozenset()
            )
            listener = Listener()
            options = PoolOptions(1, "map", CheckpointSettings(), Path(folder) / where, None, input=where)  # type: ignore[arg-type]
            pool = Pool(student, "-", table, [trial], make_mesh(MeshSettings()), options, listener, print)
            pool.run()
            spent = listener.summary["spent"]
            share = 100 * listener.summary["input_wait_share"]
            rate = arguments.steps / (spent["step"] + spent["input"])
            print(f"| {where} | {rate:.2f} | {share:.2f} |", flush=True)


def random_records(count: int) -> RecordTable:
    """Prompts and labels with the spread of lengths of published rationales."""
    rng = np.random.default_rng(0)
    prompts, labels = (rng.lognormal(mean, 0.4, count).clip(4, 400).astype(np.int32) for mean in (3.9, 4.3))
    lengths = prompts + labels
    tokens = rng.integers(0, VOCABULARY, int(lengths.sum()), dtype=np.int32)
    questions = np.arange(count) // 8
    return RecordTable.of(tokens, lengths, prompts, questions, np.arange(count) % 8, np.ones(count, bool))


def plan(table: RecordTable, examples: int, tokens: int | None) -> TrialData:
    """All records, in batches of examples or of tokens."""
    records = np.arange(len(table))
    if tokens is None:
        return TrialData(records, 0, examples)
    budget, most = TokenBudget.of(table.lengths[:, None], tokens, 1024)
    return TrialData(records, 0, most, budget)


class Listener:
    """Keeps a trial's summary."""

    summary: dict[str, Any]

    def look(self, due: Sequence[Look], params_S: Any) -> Looked:
        return Looked()

    def keep(self, trial: Trial, step: int, params: Any) -> None:
        raise AssertionError("nothing is to be kept")

    def finished(self, trial: Trial, step: int, params: Any, summary: dict[str, Any]) -> None:
        self.summary = summary

    def failed(self, trial: Trial, reason: str) -> None:
        raise RuntimeError(reason)

    def progress(self, trial: Trial, step: int, row: dict[str, Any]) -> None:
        pass


if __name__ == "__main__":
    main()
