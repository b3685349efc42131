"""Programs measured side by side: each in a process of its own, in blocks of several steps by turns.

Step by step alternation hurts all of them on a virtual machine: while one waits, its freed memory goes back to the
host, and getting it again costs seconds of system time. A real run steps on and on. So each side runs a block of steps
alone; the first step of a block, which pays for the wait, is shown and not counted. Ratios are of blocks of one turn,
so that what else the machine does falls on both.
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from ftcot_jax.accelerator import leave_out_absent_tpu


@dataclasses.dataclass(frozen=True)
class Block:
    """Consecutive steps of one side; each list has one entry a step.

    Attributes:
      seconds: wall time.
      losses: mean over the label tokens of the step.
      examples: records trained on.
      tokens: of those records, without padding.
    """

    seconds: list[float]
    losses: list[float]
    examples: list[int]
    tokens: list[int]

    @property
    def examples_per_second(self) -> float:
        """Without the first step."""
        return sum(self.examples[1:]) / sum(self.seconds[1:])

    @property
    def tokens_per_second(self) -> float:
        """Real tokens, without the first step."""
        return sum(self.tokens[1:]) / sum(self.seconds[1:])


class Side:
    """A program in a process of its own that is handed numbers and answers each when it is done.

    Args:
      name: what people call it.
      command: what starts it; one that trains is told how many steps to take, one that writes which turn it is.
    """

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        # Large pages for all alike, as `ftcot` begins.
        environment = os.environ | {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
        leave_out_absent_tpu(environment)
        self._process = subprocess.Popen(
            list(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.about: dict[str, Any] = self._answer()

    def ask(self, number: int) -> dict[str, Any]:
        """Hands it a number; what it answers when it is done."""
        assert self._process.stdin is not None
        print(number, file=self._process.stdin, flush=True)
        return self._answer()

    def block(self, steps: int) -> Block:
        """Has it take so many steps, one after another."""
        return Block(**self.ask(steps))

    def close(self) -> dict[str, Any]:
        """Ends the program; returns what it says at its end: ``peak_bytes``."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        last = self._answer()
        self._process.wait()
        return last

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"{self.name} ended before its time; its own message is above")
        answer: dict[str, Any] = json.loads(line)
        return answer


def by_turns(sides: Sequence[Side], blocks: int, steps: int) -> dict[str, list[Block]]:
    """Blocks of each side, one of each at a turn."""
    done: dict[str, list[Block]] = {side.name: [] for side in sides}
    for turn in range(blocks):
        for side in sides:
            block = side.block(steps)
            done[side.name].append(block)
            first, *rest = (f"{seconds:.2f}" for seconds in block.seconds)
            print(f"turn {turn + 1}, {side.name}: ({first}) {' '.join(rest)} s", file=sys.stderr, flush=True)
    return done


def ratios(ours: Sequence[Block], theirs: Sequence[Block]) -> list[float]:
    """How many times as many examples a second ours trains on, turn by turn."""
    return [one.examples_per_second / other.examples_per_second for one, other in zip(ours, theirs, strict=True)]


def spread(values: Sequence[float], digits: int = 2) -> str:
    """The middle of some measurements, and their range."""
    middle, low, high = (f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values)))
    return f"{middle} ({low} to {high})"
