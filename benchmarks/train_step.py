"""A training step of ours beside one of the reference recipe in PyTorch, on the same weights and records, in one run.

    python -m benchmarks.train_step --completions FILE --mirror DIR --tokenizer DIR [--checkpoint DIR] [--steps 10]

The reference pads every record to the longest of the whole set, on the left, eight a batch, float32, AdamW of learning
rate 3e-4 and PyTorch's defaults, loss on label tokens, in Hugging Face's GPT2LMHeadModel. Ours packs the same eight
records. Each has a process of its own (in one, the threads and the memory of one slow the other down), both with large
pages, as `ftcot` begins. Steps alternate, each waited for, so that other load on the machine falls on both. Without a
checkpoint the weights are random, at GPT-2's 124M shape. Needs the parity extra (PyTorch).
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ftcot_jax.rationales.judge import judge
from ftcot_jax.rationales.pairs import rationale_pairs
from ftcot_jax.records.batch import device_table, stack_batches
from ftcot_jax.records.plan import Planner, TrialData
from ftcot_jax.records.table import RecordTable
from ftcot_jax.records.tokenize import RecordSettings, tokenize_pairs
from ftcot_jax.students.load import load_student
from ftcot_jax.students.save import save_student
from ftcot_jax.students.settings import StudentSettings
from ftcot_jax.tasks.load import load_task
from ftcot_jax.tasks.settings import TaskSettings
from ftcot_jax.tasks.templates import get_template
from ftcot_jax.teacher.completion import import_completions
from ftcot_jax.training.mesh import make_mesh
from ftcot_jax.training.optimizer import Hyper
from ftcot_jax.training.settings import MeshSettings, TrainSettings
from ftcot_jax.training.slots import empty_slots, refill
from ftcot_jax.training.step import make_train_step, new_state

BATCH = 8
Step = Callable[[np.ndarray], float]  # trains on these records and returns the loss, having waited for it


def read_records(arguments: argparse.Namespace) -> RecordTable:
    """The teacher's right rationales of MultiArith's training questions, in GPT-2's tokens."""
    import transformers

    data = load_task(TaskSettings(key="multiarith", mirror=arguments.mirror))
    judged = judge(data, import_completions(arguments.completions, data.questions))
    template = get_template("ft_cot_token")
    pairs = [pair for pair in rationale_pairs(data, judged, template, template.prompt) if pair.correct]
    words = transformers.AutoTokenizer.from_pretrained(arguments.tokenizer)

    def encode(texts: Any) -> list[list[int]]:
        return words(list(texts), add_special_tokens=False)["input_ids"]

    return tokenize_pairs(pairs, encode, words.eos_token_id, 512, RecordSettings()).table


def write_gpt2(folder: Path) -> None:
    """GPT-2 124M as it is first drawn."""
    student = load_student(StudentSettings(scratch={"model_type": "gpt2", "vocab_size": 50257}), ["a", "word"])
    save_student(student, student.init(jax.random.key(0)), folder)


def reference(folder: Path, table: RecordTable, dropout: bool) -> Step:
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).train(dropout)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    width = int(table.lengths.max())
    tokens = torch.full((len(table), width), model.config.eos_token_id)
    mask, labels = torch.zeros_like(tokens), torch.full_like(tokens, -100)
    for number in range(len(table)):
        record = torch.tensor(table.record(number).astype(np.int64))
        begin = width - len(record)
        label = begin + int(table.prompt_lengths[number])
        tokens[number, begin:], mask[number, begin:] = record, 1
        labels[number, label:] = record[label - begin :]
    places = (mask.cumsum(-1) - 1).clamp(min=0)

    def step(records: np.ndarray) -> float:
        optimizer.zero_grad()
        fed = {"input_ids": tokens, "attention_mask": mask, "position_ids": places, "labels": labels}
        loss = model(**{name: rows[records] for name, rows in fed.items()}).loss
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def ours(folder: Path, table: RecordTable, data: TrialData, steps: int, dropout: bool) -> tuple[Step, float]:
    """Our step, and the seconds it took to compile for the shapes of these steps."""
    student, mesh = load_student(StudentSettings(checkpoint=str(folder), dropout=dropout)), make_mesh(MeshSettings())
    planner = Planner.for_trials(table, [data], width=student.config.n_embd)
    hyper = Hyper.of(TrainSettings(learning_rate=3e-4), steps)
    on_device, advance = device_table(table), make_train_step(student, mesh, "map")
    began = time.monotonic()
    state = empty_slots(jax.eval_shape(new_state, student.shapes, hyper), 1, mesh, student.sharding_rules)
    tried = {shape: batch for batch, shape in (planner.batch(data.at(step)) for step in range(steps))}
    for shape, batch in tried.items():
        state, _ = advance(state, on_device, stack_batches([batch]), shape)
    jax.block_until_ready(state)
    seconds = time.monotonic() - began
    held = [refill(state, 0, new_state(student.load(), hyper))]

    def step(records: np.ndarray) -> float:
        batch, shape = planner.batch(records)
        held[0], metrics = advance(held[0], on_device, stack_batches([batch]), shape)
        jax.block_until_ready(held[0])
        return float(metrics.loss[0])

    return step, seconds


class Side:
    """One of the two, in a process of its own that takes the records of a step by a line and answers by a line."""

    def __init__(self, name: str, folder: Path) -> None:
        command = [
            sys.executable,
            "-m",
            "benchmarks.train_step",
            *sys.argv[1:],
            "--side",
            name,
            "--folder",
            str(folder),
        ]
        environment = os.environ | {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.compiling = float(self._answer()["seconds"])

    def step(self, records: np.ndarray) -> tuple[float, float]:
        """The loss, and the seconds it took."""
        assert self._process.stdin is not None
        print(json.dumps(records.tolist()), file=self._process.stdin, flush=True)
        answer = self._answer()
        return answer["loss"], answer["seconds"]

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit("a side ended before its time; its own message is above")
        answer: dict[str, float] = json.loads(line)
        return answer


def be_a_side(arguments: argparse.Namespace, table: RecordTable, data: TrialData) -> None:
    """What the process of one side does."""
    if arguments.side == "reference":
        step, compiling = reference(arguments.folder, table, arguments.dropout), 0.0
    else:
        step, compiling = ours(arguments.folder, table, data, arguments.steps, arguments.dropout)
    print(json.dumps({"seconds": compiling}), flush=True)
    for line in sys.stdin:
        records, began = np.array(json.loads(line)), time.monotonic()
        loss = step(records)
        print(json.dumps({"loss": loss, "seconds": time.monotonic() - began}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--completions", type=Path, required=True, help="the authors' JSON of MultiArith rationales")
    parser.add_argument("--mirror", help="folder of the benchmarks' upstream files; fetched without it")
    parser.add_argument("--tokenizer", required=True, help="folder of GPT-2's tokenizer")
    parser.add_argument("--checkpoint", type=Path, help="a GPT-2 student to begin with")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument(
        "--dropout", action="store_true", help="both with the model's dropout; their losses then differ"
    )
    parser.add_argument("--json", type=Path)
    parser.add_argument("--side", choices=("reference", "ours"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()

    table = read_records(arguments)
    data = TrialData(np.arange(len(table)), seed=0, batch_examples=BATCH)
    if arguments.side:
        be_a_side(arguments, table, data)
        return
    losses, seconds = [], []
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.checkpoint or Path(scratch)
        if arguments.checkpoint is None:
            write_gpt2(folder)
        sides = [Side(name, folder) for name in ("reference", "ours")]
    for number in range(arguments.steps):
        rows = [side.step(data.at(number)) for side in sides]
        losses.append([row[0] for row in rows])
        seconds.append([row[1] for row in rows])
        print(f"step {number}: {rows[0][1]:.2f} s and {rows[1][1]:.2f} s, losses {rows[0][0]:.5f} and {rows[1][0]:.5f}")
    for side in sides:
        side.close()
    compiling = sides[1].compiling
    result = {"compile_seconds": compiling, "losses": losses, "seconds": seconds, "records": len(table)}
    print(f"{len(table)} records, longest {table.lengths.max()}, mean {table.lengths.mean():.0f} tokens; ", end="")
    print(f"ours compiled in {compiling:.0f} s; the first step's losses differ by {abs(np.diff(losses[0]))[0]:.1e}")
    print("| | s a step, median | quartiles | examples/s |\n|---|---|---|---|")
    for name, times in zip(("PyTorch, padded", "ours, packed"), zip(*seconds, strict=True), strict=True):
        low, middle, high = statistics.quantiles(times, n=4)
        print(f"| {name} | {middle:.3f} | {low:.3f} to {high:.3f} | {BATCH / middle:.2f} |")
    ratio = statistics.median(theirs / mine for theirs, mine in seconds)
    print(f"ours is {ratio:.2f} times as fast, median over {len(seconds)} pairs of steps")
    if arguments.json:
        arguments.json.write_text(json.dumps(result | {"ratio": ratio}) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
