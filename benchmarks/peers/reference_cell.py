"""The reference's side of a cell: `python -m benchmarks.peers.reference_cell FOLDER EPOCHS`. See `benchmarks.cell`."""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.peers.answering import claim_stdout
from benchmarks.peers.epochs import epoch_steps, text_lengths
from benchmarks.peers.reference_steps import load_model, reference_step
from benchmarks.peers.work import GivenWork
from ftcot_jax.bench.transformers_writer import write_texts
from ftcot_jax.bench.writing_work import Work


def run(folder: Path, epochs: int) -> dict[str, Any]:
    """Trains and writes, epoch after epoch; its figures."""
    work = GivenWork.read(folder)
    model = load_model(folder, work)
    step = reference_step(model, work)
    train, evaluate, losses = [], [], []
    for epoch, steps in enumerate(epoch_steps(work, epochs)):
        taken = []
        for _ in steps:
            began = time.perf_counter()
            losses.append(step()[0])
            taken.append(time.perf_counter() - began)
        if epoch == 0:
            taken[0] = min(taken[0], statistics.median(taken))  # what the first call of all costs more is start-up
        train.append(sum(taken))
        model.eval()
        began = time.perf_counter()
        write_texts(model, Work(work.prompts, text_lengths(work.prompts, work.lengths, epoch)))
        evaluate.append(time.perf_counter() - began)
        model.train(work.dropout)
    return {"train_seconds": train, "evaluate_seconds": evaluate, "first_loss": losses[0], "last_loss": losses[-1]}


if __name__ == "__main__":
    answers = claim_stdout()
    program = f"transformers {transformers.__version__}, torch {torch.__version__}"
    print(json.dumps({"program": program} | run(Path(sys.argv[1]), int(sys.argv[2]))), file=answers, flush=True)
