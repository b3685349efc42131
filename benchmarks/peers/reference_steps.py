"""The reference recipe's train step in PyTorch: `python -m benchmarks.peers.reference_steps FOLDER`.

Batches as in `padded`, float32, AdamW of learning rate 3e-4 and PyTorch's defaults, loss on label tokens, in Hugging
Face's GPT2LMHeadModel. Needs PyTorch and transformers alone.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks.peers.answering import Step, answer, claim_stdout
from benchmarks.peers.padded import Padded
from benchmarks.peers.work import STUDENT, GivenWork


def load_model(folder: Path, work: GivenWork) -> Any:
    """The student, in training with or without its dropout."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder / STUDENT, dtype=torch.float32)
    return model.train(work.dropout)


def reference_step(model: Any, work: GivenWork) -> Step:
    """Trains `model` on one step's records after another."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    padded = Padded.of(work.records, work.prompt_lengths, model.config.eos_token_id)
    fed = {field.name: torch.from_numpy(getattr(padded, field.name)) for field in dataclasses.fields(padded)}
    todo = iter(work.steps)

    def step() -> tuple[float, int, int]:
        records = next(todo)
        optimizer.zero_grad()
        loss = model(**{name: rows[records] for name, rows in fed.items()}).loss
        loss.backward()
        optimizer.step()
        return loss.item(), len(records), work.tokens_of(records)

    return step


if __name__ == "__main__":
    answers, folder = claim_stdout(), Path(sys.argv[1])
    work = GivenWork.read(folder)
    program = f"transformers {transformers.__version__}, torch {torch.__version__}, padded"
    answer(answers, {"program": program}, reference_step(load_model(folder, work), work))
