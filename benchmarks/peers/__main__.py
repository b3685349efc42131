"""All peers in one run, on the same machine, weights, records and order.

    python -m benchmarks.peers --completions FILE --mirror DIR --tokenizer DIR --peers DIR [--task svamp]
        [--json benchmarks/peers.json] [--blocks 4] [--steps 5] [--turns 2] [--prompts 96]

Training by turns, as `benchmarks.train_step`, then generation, all programs at each turn; prints one Markdown table of
each. Peers that are not installed are named as left out: `benchmarks/peers/environment.sh DIR` installs them. The
reference needs the parity extra (PyTorch). `python -m benchmarks.peers.table FILE` prints the tables of a JSON again.
Some fifteen minutes on two quiet cores with four trainers and three that write; on the chatgpt SVAMP rationales give
--blocks 2 --steps 3.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.peers.prepare import add_arguments, prepare
from benchmarks.peers.side_by_side import TRAINERS, WRITERS, installed, write_side_by_side
from benchmarks.train_step import add_turns, measure_training, report

NAMES = ",".join(dict.fromkeys(program.name for program in (*TRAINERS, *WRITERS)))


def measure_writing(arguments: argparse.Namespace) -> dict[str, Any]:
    """Generation by turns; the figures, and the programs that are left out."""
    programs, left_out = installed(WRITERS, arguments.peers, arguments.programs)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        work = prepare(arguments, folder, steps=1, prompts=arguments.prompts)
        writing, ended = write_side_by_side(programs, folder, work, arguments.turns)
    return {"writing": {"task": arguments.task} | writing, "left_out": left_out + ended}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    add_turns(parser, NAMES)
    parser.add_argument("--turns", type=int, default=2, help="of generation, after a first that does not count")
    parser.add_argument("--prompts", type=int, default=96)
    arguments = parser.parse_args()
    training = measure_training(arguments)
    report(training, arguments.json)  # kept, should generation fail
    writing = measure_writing(arguments)
    left_out = list(dict.fromkeys(training["left_out"] + writing["left_out"]))
    report(training | writing | {"left_out": left_out}, arguments.json)


if __name__ == "__main__":
    main()
