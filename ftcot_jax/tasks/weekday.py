"""Weekday tracking: a task whose questions the package generates, for a run that needs no network.

``Ida starts Thu . 1 later . 3 before . 2 later ?`` asks which day Ida ends on. Seven answers, three moves of one
to three days: too many cases to memorise from a few hundred, easy once worked out step by step.
"""

from __future__ import annotations

import itertools

import numpy as np

from ftcot_jax.tasks.question import Question

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gus", "Ida", "Jan", "Kim")
DIRECTIONS = ("later", "before")
FARTHEST = 3
MOVES = 3

Move = tuple[int, str]


def vocabulary() -> tuple[str, ...]:
    """Every word of its questions, rationales, answers and of the templates around them."""
    steps = tuple(str(days) for days in range(1, FARTHEST + 1))
    return (*DAYS, *NAMES, *DIRECTIONS, *steps, "starts", "than", "is", ".", "?", "###", "-->")


def questions(seed: int, train: int, test: int) -> list[Question]:
    """Draws `train` + `test` questions, the training ones first.

    No two share start day and moves, whatever the name: a held-out question's answer was never shown.

    Raises:
      ValueError: more are wanted than there are.
    """
    single = list(itertools.product(range(1, FARTHEST + 1), DIRECTIONS))
    cores = list(itertools.product(DAYS, *[single] * MOVES))
    if train + test > len(cores):
        raise ValueError(f"weekday_tracking has {len(cores)} different questions, not {train + test}")
    bits = np.random.Philox(key=np.array([seed, 0], np.uint64))
    order = np.argsort(bits.random_raw(len(cores)), kind="stable")[: train + test]
    names = bits.random_raw(train + test) % np.uint64(len(NAMES))
    made = []
    for index, (core, name) in enumerate(zip(order, names, strict=True)):
        start, *moves = cores[core]
        text = " . ".join([f"{NAMES[name]} starts {start}", *(f"{days} {way}" for days, way in moves)])
        made.append(Question(index, f"{text} ?", solve(start, moves)))
    return made


def parse(question: str) -> tuple[str, list[Move]]:
    """Returns the start day and the moves of a question.

    Raises:
      ValueError: the text is not of the task's form.
    """
    words = question.replace("?", " ").split()
    phrases = [phrase.split() for phrase in " ".join(words).split(" . ")]
    opening, moves = phrases[0], phrases[1:]
    if len(opening) != 3 or opening[1] != "starts" or opening[2] not in DAYS or not moves:
        raise ValueError(f"not a weekday question: {question!r}")
    if any(len(move) != 2 or not move[0].isdigit() or move[1] not in DIRECTIONS for move in moves):
        raise ValueError(f"not a weekday question: {question!r}")
    return opening[2], [(int(days), way) for days, way in moves]


def shift(day: str, days: int, way: str) -> str:
    """The day `days` after (``later``) or before `day`."""
    return DAYS[(DAYS.index(day) + (days if way == "later" else -days)) % len(DAYS)]


def solve(start: str, moves: list[Move]) -> str:
    """The day reached from `start`."""
    for days, way in moves:
        start = shift(start, days, way)
    return start
