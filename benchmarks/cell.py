"""One cell of the paper, trained and evaluated every epoch: the reference recipe in PyTorch beside ours.

    python -m benchmarks.cell --completions FILE --mirror DIR --tokenizer DIR [--task svamp] [--epochs 2]
        [--steps-per-epoch 16] [--questions 60] [--json FILE]

The reference trains as in `benchmarks.train_step`, and after each epoch writes with Hugging Face's generate in batches
of 32, greedily, to at most 1024 tokens (256 after each of the first two epochs, as the authors do). Ours is the pool
that `ftcot run` trains with, which looks at the student after each epoch. Both begin with the same weights and take the
same records in the same order. One runs after the other, each in a process of its own.

A student with random weights would hardly ever stop, where a trained one does: both sides' texts end after as many
tokens as the published rationale of their question has, as in `ftcot bench generate`, in every epoch. Texts are not
scored on either side.

Twenty epochs do not fit into an hour on two cores, so an epoch's steps and the questions are bounded, and seconds a
step and a question of each side are measured; a whole epoch and twenty are reckoned from them. What compiles counts as
start-up: of training by the pool's clock, of writing as what evaluations took longer than the quickest of them, on both
sides. With the defaults some ten minutes on two quiet cores for MultiArith; for chatgpt's SVAMP give
--steps-per-epoch 4.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.peers.prepare import add_arguments, prepare
from benchmarks.peers.work import GivenWork
from benchmarks.train_step import report

EPOCHS = 20  # of the paper


def reckon(measured: dict[str, Any], work: GivenWork) -> dict[str, Any]:
    """What one program's measured seconds come to.

    Args:
      measured: ``seconds`` of the whole process; of each epoch its ``train_seconds``, without compilation, and its
        ``evaluate_seconds``, the first with it.
      work: what it was given.
    """
    train, evaluate = sum(measured["train_seconds"]), measured["evaluate_seconds"]
    usual = min(evaluate)
    step, question = train / len(work.steps), usual / len(work.prompts)
    start = measured["seconds"] - train - usual * len(evaluate)
    epoch_train, epoch_evaluate = step * work.epoch_steps, question * work.test_questions
    return measured | {
        "start_seconds": start,
        "measured_train_seconds": train,
        "measured_evaluate_seconds": usual * len(evaluate),
        "step_seconds": step,
        "question_seconds": question,
        "epoch_train_seconds": epoch_train,
        "epoch_evaluate_seconds": epoch_evaluate,
        "epoch_seconds": epoch_train + epoch_evaluate,
        "twenty_epochs_seconds": start + EPOCHS * (epoch_train + epoch_evaluate),
    }


def run_alone(module: str, folder: Path, epochs: int) -> dict[str, Any]:
    """Runs one side to its end; what it wrote in its last line, and the seconds it took in all."""
    environment = os.environ | {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
    command = [sys.executable, "-m", f"benchmarks.peers.{module}", str(folder), str(epochs)]
    began = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment)
    seconds = time.perf_counter() - began
    if done.returncode:
        sys.exit(f"{module} ended with {done.returncode}; its own message is above")
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured | {"seconds": seconds}


def measure_cell(arguments: argparse.Namespace) -> dict[str, Any]:
    """Both sides' figures."""
    if arguments.epochs < 2:
        raise SystemExit("--epochs: the first evaluation compiles too, so at least 2 are measured")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        steps = arguments.epochs * arguments.steps_per_epoch
        work = prepare(arguments, folder, steps=steps, prompts=arguments.questions)
        sides = {
            name: reckon(run_alone(module, folder, arguments.epochs), work)
            for name, module in (("reference", "reference_cell"), ("ours", "our_cell"))
        }
    ours, theirs = sides["ours"], sides["reference"]
    return {
        "task": arguments.task,
        "epochs": arguments.epochs,
        "steps_an_epoch": arguments.steps_per_epoch,
        "epoch_steps": work.epoch_steps,
        "questions": len(work.prompts),
        "test_questions": work.test_questions,
        "batch": work.batch,
        "dropout": work.dropout,
        "ratio_measured": theirs["seconds"] / ours["seconds"],
        "ratio_twenty_epochs": theirs["twenty_epochs_seconds"] / ours["twenty_epochs_seconds"],
        "programs": sides,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--epochs", type=int, default=2, help="measured; the first evaluation also compiles")
    parser.add_argument("--steps-per-epoch", type=int, default=16)
    parser.add_argument("--questions", type=int, default=60, help="asked after each epoch")
    parser.add_argument("--json", type=Path, help="where to write the figures")
    arguments = parser.parse_args()
    report({"cell": measure_cell(arguments)}, arguments.json)


if __name__ == "__main__":
    main()
