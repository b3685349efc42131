"""Rationales that say the same: equal texts, equal but for spelling, or the same equations in the same order."""

from __future__ import annotations

import re
from collections.abc import Sequence

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


def repeats(sample_index: Sequence[int], rationales: Sequence[str], near: bool, arithmetic: bool) -> list[bool]:
    """Whether each rationale repeats an earlier one of its question.

    Args:
      sample_index: (N,) question of each rationale.
      rationales: (N,) in the order in which earlier ones are kept.
      near: also count those with the same text key; else only equal ones.
      arithmetic: near ones are also those with the same equations.
    """
    seen: set[tuple[int, object]] = set()
    found = []
    for index, rationale in zip(sample_index, rationales, strict=True):
        keys: list[object] = [text_key(rationale)] if near else [exact_key(rationale)]
        if near and arithmetic and (equations := equation_sequence(rationale)):
            keys.append(equations)
        places = {(index, key) for key in keys}
        found.append(not seen.isdisjoint(places))
        if not found[-1]:
            seen |= places
    return found
