"""The equations of a rationale, each checked: "3 + 5 = 9" is wrong, and so is "24 - 8 people = 15 people".

A checker that cries wolf is worse than none, so whatever it cannot read for certain it does not judge: unknowns
("3x + 15 = 27"), functions, clock times, dates, mixed measures ("1 hour - 20 minutes = 40 minutes"), bare
statements ("1 dozen = 12"). Rounded results are right, to as many decimals as are written, and so is a running
calculation ("3 + 4 = 7 + 5 = 12"). Nothing of the text is ever executed.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Sequence

from ftcot_jax.evaluation.arithmetic import (
    MEASURES,
    Token,
    Unreadable,
    end_of_first_number,
    end_of_prefix,
    plain,
    read_tokens,
    start_of_suffix,
    value_of,
)

# Words before an expression that make it part of another ("half of 10 + 5", "10% off 50 + 5").
_MODIFIERS = frozenset(
    re.findall(r"\w+", "of off than half twice double triple by from root square cube third quarter times percent per")
)
_LABELS = frozenset(
    re.findall(r"\w+", "step day week month year box table number part case option room group problem question no")
)
_COINS = frozenset({"cent", "nickel", "dime", "quarter"})
_MOST_TOKENS = 60  # of one side; a longer one is a student rambling


@dataclasses.dataclass(frozen=True)
class Equation:
    """An equation that could be judged.

    Attributes:
      text: as written, from the first sign of its left side to the last of its right.
      value: of its left side.
      holds: whether the right side says the same, or the same rounded.
    """

    text: str
    value: float
    holds: bool


def check_equations(text: str, may_be_cut: bool = False) -> list[Equation]:
    """The equations of a text that can be judged, in order.

    Args:
      text: a rationale.
      may_be_cut: the text perhaps ends in the middle of a number: one it ends with proves nothing.
    """
    if "=" not in text:
        return []
    found = []
    for line in plain(text).split("\n"):
        if "=" in line:
            found += _check_line(line)
    if may_be_cut and found and not found[-1].holds and plain(text).rstrip().endswith(found[-1].text):
        found.pop()
    return found


def _check_line(line: str) -> list[Equation]:
    tokens = read_tokens(line)
    sides: list[list[Token]] = [[]]
    for token in tokens:
        if token.kind == "equals":
            sides.append([])
        else:
            sides[-1].append(token)
    found = []
    for left, right in itertools.pairwise(sides):
        equation = _check(line, left, right)
        if equation is not None:
            found.append(equation)
    return found


def _check(line: str, left: list[Token], right: list[Token]) -> Equation | None:
    left, right = left[-_MOST_TOKENS:], right[:_MOST_TOKENS]
    first = start_of_suffix(line, left)
    last = end_of_prefix(line, right)
    if first is None or last is None:
        return None
    before, after = left[:first], right[last:]
    if before and before[-1].kind in ("operator", "odd") and not _is_bullet(before):
        return None
    if _called(line, left, first) or (after and after[0].kind in ("operator", "odd", "open")):
        return None
    one, other = left[first:], right[:last]
    if not _calculates(one) and not _calculates(other):
        return None
    readings = [(one, other), (one, other[: end_of_first_number(line, other)])]
    if _is_labelled(left, first):
        readings.append((one[2:], other))
    if one[0].text == "-" and first == 0:
        readings.append((one[1:], other))  # a dash that opens a line is no sign
    try:
        value = value_of(line, one, 0.01)
        holds = any(
            _agree(value_of(line, a, percent), b, value_of(line, b, percent), _divides(line, a))
            for a, b in readings
            for percent in (0.01, 1.0)
            if a and b
        )
    except Unreadable:
        return None
    if not holds and _is_unsure(before, one, other, after):
        return None
    return Equation(line[one[0].start : other[-1].end], value, holds)


def _is_bullet(before: Sequence[Token]) -> bool:
    return len(before) == 1 and before[0].text in ("-", "*", "+")


def _is_labelled(left: Sequence[Token], first: int) -> bool:
    """Whether an expression starts as in "Day 1 - 5 + 5 = 10"."""
    return (
        first > 0 and len(left) > first + 2 and left[first - 1].text.lower() in _LABELS and left[first + 1].text == "-"
    )


def _called(line: str, left: Sequence[Token], first: int) -> bool:
    """Whether the expression is a function's argument: f(2) = 4."""
    if not first or left[first].kind != "open":
        return False
    return left[first - 1].kind in ("word", "odd") and left[first - 1].end == left[first].start


def _calculates(tokens: Sequence[Token]) -> bool:
    return any(token.kind == "operator" for token in tokens[1:]) or any(token.text == "of" for token in tokens)


def _is_unsure(before: Sequence[Token], one: Sequence[Token], other: Sequence[Token], after: Sequence[Token]) -> bool:
    """Whether a false equation may be a true one that says more than its numbers."""
    if before and before[-1].kind == "word" and before[-1].text.lower() in _MODIFIERS:
        return True
    words = [token.text.lower() for token in (*one, *other) if token.kind == "word"]
    measures = {MEASURES[word] for word in words if word in MEASURES}
    if any("$" in token.text for token in (*one, *other)):
        measures.add("dollar")
    if len(measures - {"dollar"}) > 1 or (len(measures) > 1 and measures & _COINS):
        return True
    if other[-1].text == "and" and [token.kind for token in after[:2]][:1] == ["number"] and not _calculates(after[:2]):
        return True  # "= 20 apples and 12 peaches"
    if any(word in ("remainder", "left-over", "leftover") for word in words):
        return True
    if one[0].text == "-" or _is_fraction(other):
        return True  # the rest of a list over lines; a date ("8/3 - 7 = 7/27"), or a fraction of something
    if before and not _calculates(one):
        return True  # "35 push-ups and 3 crunches = 35 + 3"
    if _is_fraction(one) and not _calculates(other):
        return True  # "1/8 lap = 3 minutes"
    numbers = [token.text for token in one if token.kind == "number"]
    percents = sum("%" in text for text in numbers)
    return 0 < percents < len(numbers) and any(token.text in ("+", "-") for token in one)


def _is_fraction(tokens: Sequence[Token]) -> bool:
    """Whether this is one proper fraction, or a month and a day."""
    if [token.kind for token in tokens[:3]] != ["number", "operator", "number"] or tokens[1].text != "/":
        return False
    if any(token.kind != "word" for token in tokens[3:]):
        return False
    top, bottom = tokens[0].text, tokens[2].text
    return top.isdigit() and bottom.isdigit() and (int(top) < int(bottom) or (int(top) <= 12 and int(bottom) <= 31))


def _divides(line: str, tokens: Sequence[Token]) -> bool:
    """Whether a result may be a rounded one: of a product or quotient; the bar of "2 1/2" is neither."""
    text = re.sub(r"\d\s+\d+/\d+", "", line[tokens[0].start : tokens[-1].end]) if tokens else ""
    return any(sign in text for sign in "*/^%(xX") or any(token.text == "*" for token in tokens)


def _agree(left: float, tokens: Sequence[Token], right: float, rounded: bool) -> bool:
    """Whether the right side is the left's value, or that value rounded or cut to the decimals it is written with."""
    if math.isclose(left, right, rel_tol=1e-6, abs_tol=1e-9):
        return True
    if not rounded:
        return False
    numbers = [token.text for token in tokens if token.kind == "number"]
    if len(numbers) > 1:  # a calculation of its own, from numbers that may be rounded
        return any("." in text for text in numbers) and math.isclose(left, right, rel_tol=5e-3)
    decimals = len(re.sub(r"[^\d.]", "", numbers[0]).partition(".")[2]) + (
        2 if "%" in numbers[0] and right < 1.5 else 0
    )
    unit = 10.0**-decimals
    near = [math.floor(left / unit + 1e-9) * unit, math.ceil(left / unit - 1e-9) * unit]
    return any(math.isclose(right, value, rel_tol=1e-9, abs_tol=unit * 1e-3) for value in near)
