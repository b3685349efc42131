"""Which programs there are, where each runs, and their measurement by turns."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers.blocks import Block, Side, by_turns, ratios
from benchmarks.peers.work import GivenWork


@dataclasses.dataclass(frozen=True)
class Program:
    """One of those measured.

    Attributes:
      name: its key in the JSON.
      module: what runs it, in `benchmarks.peers`.
      environment: folder of its environment among the peers'; None where it runs in this one.
      needs: a package that must be importable here, if it runs here.
      does: with a step's records, for the table.
      same_steps: whether each step takes the same records as ours, so that the first losses must be equal.
    """

    name: str
    module: str
    environment: str | None
    needs: str
    does: str
    same_steps: bool = True

    def python(self, peers: Path | None) -> str | None:
        """The interpreter that runs it; None where it is not installed."""
        if self.environment is None:
            return sys.executable if importlib.util.find_spec(self.needs) else None
        python = None if peers is None else peers / self.environment / "bin" / "python"
        return str(python) if python is not None and python.exists() else None


TRAINERS = (
    Program("ours", "our_steps", None, "ftcot_jax", "packs a step's records"),
    Program("reference", "reference_steps", None, "torch", "pads to the longest of the set"),
    Program("trl", "trl_steps", "trl", "trl", "packs the set anew, a row of 1024 a step", same_steps=False),
    Program("easydel", "easydel_steps", "easydel", "easydel", "pads to the longest of the set"),
)
WRITERS = (
    Program("ours", "our_texts", None, "ftcot_jax", "32 rows, refilled as texts end"),
    Program("reference", "reference_texts", None, "torch", "generate, batches of 32 until their last text ends"),
    Program("vllm", "vllm_texts", "vllm", "vllm", "32 at a time, refilled as texts end"),
)


def program_names(text: str) -> list[str]:
    """Names of programs, with commas; ours is always the first."""
    known = {program.name for program in (*TRAINERS, *WRITERS)}
    names = list(dict.fromkeys(["ours", *text.split(",")]))
    if unknown := [name for name in names if name not in known]:
        raise argparse.ArgumentTypeError(f"no such program: {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    return names


def installed(
    programs: Sequence[Program], peers: Path | None, names: Sequence[str]
) -> tuple[list[tuple[Program, str]], list[str]]:
    """Those of the named programs that can run, with their interpreters; and why each of the others cannot."""
    found, left_out = [], []
    for program in programs:
        if program.name not in names:
            continue
        python = program.python(peers)
        if python is not None:
            found.append((program, python))
        elif program.environment is None:
            left_out.append(f"{program.name}: {program.needs} is not installed here")
        else:
            left_out.append(f"{program.name}: no environment {program.environment}/ (benchmarks/peers/environment.sh)")
    return found, left_out


def train_side_by_side(
    programs: Sequence[tuple[Program, str]], folder: Path, work: GivenWork, blocks: int, steps: int
) -> tuple[dict[str, Any], list[str]]:
    """Measures them on the work in `folder`; ours comes first. Returns figures as JSON values, and who is left out."""
    assert programs[0][0].name == "ours"
    ready, left_out = start(programs, folder)
    sides = [side for _, side in ready]
    measured = by_turns(sides, blocks, steps)
    ends = {side.name: side.close() for side in sides}
    lengths = [len(record) for record in work.records]
    rows = {
        side.name: side.about
        | ends[side.name]
        | {"does": program.does, "same_steps": program.same_steps}
        | figures(measured[side.name], measured["ours"])
        for program, side in ready
    }
    return {
        "records": len(lengths),
        "longest": max(lengths),
        "mean_length": statistics.mean(lengths),
        "batch": work.batch,
        "dropout": work.dropout,
        "blocks": blocks,
        "steps_a_block": steps,
        "programs": rows,
    }, left_out


def write_side_by_side(
    programs: Sequence[tuple[Program, str]], folder: Path, work: GivenWork, turns: int
) -> tuple[dict[str, Any], list[str]]:
    """Measures programs that write the work's texts, all of them at each turn; returns as `train_side_by_side`."""
    assert programs[0][0].name == "ours"
    ready, left_out = start(programs, folder)
    sides = [side for _, side in ready]
    seconds: dict[str, list[float]] = {side.name: [] for side in sides}
    for turn in range(turns):
        for side in sides:
            seconds[side.name].append(side.ask(turn)["seconds"])
            print(f"turn {turn + 1}, {side.name}: {seconds[side.name][-1]:.2f} s", file=sys.stderr, flush=True)
    ends = {side.name: side.close() for side in sides}
    texts = {side.name: json.loads((folder / f"{side.name}-texts.json").read_text()) for side in sides}
    rows = {
        side.name: side.about
        | ends[side.name]
        | {
            "does": program.does,
            "seconds": seconds[side.name],
            "ours_faster": [theirs / ours for theirs, ours in zip(seconds[side.name], seconds["ours"], strict=True)],
            "equal_texts": sum(a == b for a, b in zip(texts[side.name], texts["ours"], strict=True)),
        }
        for program, side in ready
    }
    return {"prompts": len(work.prompts), "tokens": sum(work.lengths), "turns": turns, "programs": rows}, left_out


def start(programs: Sequence[tuple[Program, str]], folder: Path) -> tuple[list[tuple[Program, Side]], list[str]]:
    """The programs at work on `folder`, ready for their first turn; and those that ended before, which are left out."""
    ready, left_out = [], []
    for program, python in programs:
        try:
            side = Side(program.name, [python, "-m", f"benchmarks.peers.{program.module}", str(folder)])
        except SystemExit as ended:
            if program.name == "ours":
                raise
            left_out.append(str(ended))
        else:
            ready.append((program, side))
    return ready, left_out


def figures(blocks: Sequence[Block], ours: Sequence[Block]) -> dict[str, Any]:
    """Of one program: speeds of its blocks, how many times as fast ours is, turn by turn, and every step."""
    counted = [seconds for block in blocks for seconds in block.seconds[1:]]
    return {
        "step_seconds": statistics.median(counted),
        "examples_per_second": [block.examples_per_second for block in blocks],
        "tokens_per_second": [block.tokens_per_second for block in blocks],
        "ours_faster": ratios(ours, blocks),
        "first_loss": blocks[0].losses[0],
        "blocks": [dataclasses.asdict(block) for block in blocks],
    }
