"""A training step of ours beside one of the reference recipe in PyTorch, on the same weights and records, in one run.

    python -m benchmarks.train_step --completions FILE --mirror DIR --tokenizer DIR [--task svamp] [--batch 8]
        [--blocks 4] [--steps 5] [--json FILE] [--programs ours,reference,trl,easydel --peers DIR]

The reference pads every record to the longest of the whole set, on the left, eight a batch, float32, AdamW of learning
rate 3e-4 and PyTorch's defaults, loss on label tokens, in Hugging Face's GPT2LMHeadModel. Ours packs the same eight
records. Each has a process of its own, both with large pages, as `ftcot` begins, and they take turns in blocks of steps
(`benchmarks.peers.blocks`). Without a checkpoint the weights are random, at GPT-2's 124M shape. Needs the parity extra
(PyTorch). With MultiArith's 332 records some five minutes; with chatgpt's SVAMP rationales, whose reference is padded
to the longest of them, give --blocks 2 --steps 3: it takes as long.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.peers.prepare import add_arguments, prepare
from benchmarks.peers.side_by_side import TRAINERS, installed, program_names, train_side_by_side
from benchmarks.peers.table import table


def add_turns(parser: argparse.ArgumentParser, programs: str) -> None:
    """How much is measured, and of which programs."""
    parser.add_argument("--blocks", type=int, default=4, help="turns of each program")
    parser.add_argument("--steps", type=int, default=5, help="steps of a turn; its first does not count")
    parser.add_argument(
        "--programs", type=program_names, default=programs, help="those to measure, with commas; ours is one of them"
    )
    parser.add_argument("--peers", type=Path, help="folder that benchmarks/peers/environment.sh made")
    parser.add_argument("--json", type=Path, help="where to write the figures")


def measure_training(arguments: argparse.Namespace) -> dict[str, Any]:
    """Training by turns; the figures, and the programs that are left out."""
    if arguments.steps < 2:
        raise SystemExit("--steps: a turn's first step does not count, so a turn has at least 2")
    programs, left_out = installed(TRAINERS, arguments.peers, arguments.programs)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        work = prepare(arguments, folder, steps=arguments.blocks * arguments.steps, prompts=1)
        training, ended = train_side_by_side(programs, folder, work, arguments.blocks, arguments.steps)
    return {"training": {"task": arguments.task} | training, "left_out": left_out + ended}


def report(figures: dict[str, Any], json_file: Path | None) -> None:
    """Prints the tables, and writes the figures they are made from."""
    print(table(figures))
    if json_file is not None:
        json_file.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    add_turns(parser, "ours,reference")
    arguments = parser.parse_args()
    report(measure_training(arguments), arguments.json)


if __name__ == "__main__":
    main()
