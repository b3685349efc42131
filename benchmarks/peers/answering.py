"""The other end of `blocks.Side`: reads how many steps to take, answers with what they took, line by line.

Imports nothing but the standard library: it runs in each peer's own environment.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

# Trains one step and returns, when it is done: the loss, the examples, and their real tokens.
Step = Callable[[], tuple[float, int, int]]
Texts = list[list[int]]  # token ids


def claim_stdout() -> TextIO:
    """The answers' way out; what libraries print goes to stderr from now on."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def say(answers: TextIO, message: dict[str, Any]) -> None:
    print(json.dumps(message), file=answers, flush=True)


def blocks_asked() -> Iterator[int]:
    """How many steps to take, one block after another, or which turn it is, until no more is asked."""
    for line in sys.stdin:
        yield int(line)


def answer(answers: TextIO, about: dict[str, Any], step: Step) -> None:
    """Says what it is, takes steps as asked, and ends by saying its peak memory."""
    say(answers, about)
    for steps in blocks_asked():
        rows = []
        for _ in range(steps):
            began = time.perf_counter()
            loss, examples, tokens = step()
            rows.append((time.perf_counter() - began, loss, examples, tokens))
        say_block(answers, rows)
    say_end(answers)


def say_block(answers: TextIO, rows: list[tuple[float, float, int, int]]) -> None:
    """Of rows of (seconds, loss, examples, tokens), one a step."""
    seconds, losses, examples, tokens = map(list, zip(*rows, strict=True))
    say(answers, {"seconds": seconds, "losses": losses, "examples": examples, "tokens": tokens})


def say_end(answers: TextIO) -> None:
    say(answers, {"peak_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss})


def answer_texts(answers: TextIO, about: dict[str, Any], folder: Path, name: str, write: Callable[[], Texts]) -> None:
    """Of a program that writes: once before it says what it is, which warms up, and again at each turn.

    The texts of the last turn are left in ``NAME-texts.json``.
    """
    began = time.perf_counter()
    write()
    say(answers, about | {"first_seconds": time.perf_counter() - began})
    for _ in blocks_asked():
        began = time.perf_counter()
        texts = write()
        seconds = time.perf_counter() - began
        (folder / f"{name}-texts.json").write_text(json.dumps(texts), encoding="utf-8")
        say(answers, {"seconds": seconds})
    say_end(answers)
