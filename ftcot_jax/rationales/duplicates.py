"""Rationales that say the same: equal texts, equal but for spelling, or the same equations in the same order."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable

import numpy as np

_NOISE = re.compile(r"[\W_]+")
_EQUATION = re.compile(r"[($]*\d[\d.,$%()\s]*[-+*/x×÷][-\d.,$%()\s+*/x×÷]*=\s*[$]?\s?-?[\d.,]*\d")
_SPELLINGS = str.maketrans({"x": "*", "×": "*", "÷": "/", "$": None, ",": None, " ": None, "\n": None, "\t": None})


def exact_key(rationale: str) -> str:
    """Equal for rationales that are equal but for the space around them."""
    return rationale.strip()


def text_key(rationale: str) -> str:
    """Equal for rationales that are equal but for case, spaces and punctuation; signs of arithmetic count."""
    kept = re.sub(r"[-+*/=×÷]", lambda sign: f" s{ord(sign.group())} ", rationale.casefold())
    return _NOISE.sub(" ", kept).strip()


def equation_sequence(rationale: str) -> tuple[str, ...]:
    """The equations of a rationale in order, spelled one way: ``("3*4=12", "12-5=7")``."""
    return tuple(found.translate(_SPELLINGS).strip(".") for found in _EQUATION.findall(rationale))


def first_with(rows: Iterable[tuple[int, tuple[object, ...]]], kinds: int) -> tuple[np.ndarray, ...]:
    """Numbers keys: equal within a question where they are equal, and never between questions.

    Args:
      rows: the question of each of N rationales and its `kinds` keys, None for one it does not have; the rationales of
        a question lie next to each other.
      kinds: of keys.

    Returns:
      Of each kind (N,) int32: the place of the question's first rationale with the same key; -1 where there is none.
    """
    found = tuple(array("i") for _ in range(kinds))
    known: list[dict[object, int]] = []
    before: int | None = None
    for place, (question, keys) in enumerate(rows):
        if question != before:
            before, known = question, [{} for _ in range(kinds)]
        for numbers, first, key in zip(found, known, keys, strict=True):
            numbers.append(-1 if key is None else first.setdefault(key, place))
    return tuple(np.asarray(numbers) for numbers in found)


def repeats(*numbers: np.ndarray) -> np.ndarray:
    """Whether each rationale repeats an earlier one of its question in any of its keys.

    What repeats another is not there for those after it to repeat.

    Args:
      numbers: of each kind of key (N,) ints as `first_with` numbers them, for rationales in the order in which earlier
        ones are kept.

    Returns:
      (N,) bool.
    """
    seen = [bytearray(2 + int(number_N.max(initial=-1))) for number_N in numbers]  # the last is -1's and never set
    found = np.zeros(len(numbers[0]), bool)
    for place, row in enumerate(zip(*(number_N.data for number_N in numbers), strict=True)):
        if any(marks[number] for marks, number in zip(seen, row, strict=True)):
            found[place] = True
            continue
        for marks, number in zip(seen, row, strict=True):
            if number >= 0:
                marks[number] = 1
    return found
