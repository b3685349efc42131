"""The paper's evaluator, rule for rule, with what it gets wrong.

Source: src/evaluation/evaluator.py of the authors' repository. Numbers must match as text in some tasks, a
letter inside a word counts as a choice, and a prefix that is missing makes the last candidate count, not the first.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence

from ftcot_jax.tasks.task import Task

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_YES_NO_NOISE = re.compile(r"[\"'\n.\s:,]")
_LETTER_NOISE = re.compile(r"[\"'\n.\s]")
_CLOSE_ENOUGH = 1e-6


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """What could be the answer in a text, in order, and which of it is taken for the answer."""

    prediction: str | None
    candidates: Sequence[str]


def find(task: Task, text: str, answer_prefix: str | None) -> Found:
    """Finds the answer in a text.

    Without a prefix the first candidate counts; with one, the first after it; where it is absent, the last of
    the whole text.
    """
    if answer_prefix is None:
        found = candidates(task, text)
        return Found(found[0] if found else None, found)
    before, prefix, after = text.partition(answer_prefix)
    if prefix:
        found = candidates(task, after)
        return Found(found[0] if found else None, found)
    found = candidates(task, before)
    return Found(found[-1] if found else None, found)


def candidates(task: Task, text: str) -> list[str]:
    """Everything in the text that could be an answer of the task's kind, in order."""
    match task.answer_type:
        case "integer" | "float":
            return _NUMBER.findall(text.replace(",", ""))
        case "choice":
            return [character for character in text if character in task.choices]
        case "yes_no":
            words = _YES_NO_NOISE.sub(" ", text.lower()).split(" ")
            return [word for word in words if word in ("yes", "no")]
        case "letters":
            return [_LETTER_NOISE.sub("", text)]
        case "word":
            return [word for word in text.split() if word in task.choices]
        case "text":
            return [text.strip()]


def equal(task: Task, candidate: str, gold: str) -> bool:
    """Whether a candidate is the gold answer, by the task's rule."""
    match task.answer_type:
        case "integer":
            return candidate == gold.replace(",", "")
        case "float":
            return _is_number(gold) and abs(float(candidate) - float(gold.replace(",", ""))) <= _CLOSE_ENOUGH
        case "yes_no":
            return candidate == gold.lower()
        case _:
            return candidate == gold


def _is_number(text: str) -> bool:
    """Whether a gold answer is a finite number once its commas are gone."""
    try:
        return math.isfinite(float(text.replace(",", "")))
    except ValueError:
        return False
