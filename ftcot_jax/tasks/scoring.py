"""Finding an answer in text and comparing it with the gold one, rule for rule as the paper's evaluator.

Source: src/evaluation/evaluator.py of the authors' repository, with what it gets wrong: numbers must match as
text in some tasks, and a prefix that is missing makes the last candidate count, not the first.
"""

from __future__ import annotations

import dataclasses
import re

from ftcot_jax.tasks.task import Task

_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_YES_NO_NOISE = re.compile(r"[\"'\n.\s:,]")
_LETTER_NOISE = re.compile(r"[\"'\n.\s]")
_CLOSE_ENOUGH = 1e-6


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What the evaluator says of one text.

    Attributes:
      correct: the chosen candidate equals the gold answer.
      prediction: the chosen candidate, None if there is none.
      contains_answer: some candidate of the whole text equals the gold answer.
      correct_format: the template's prefix is in the text, or it has none.
    """

    correct: bool
    prediction: str | None
    contains_answer: bool
    correct_format: bool


def score(task: Task, text: str, gold: str, answer_prefix: str | None) -> Verdict:
    """Scores a completion; no text raises.

    Args:
      task: decides what a candidate is and when two answers are equal.
      text: the completion.
      gold: the right answer.
      answer_prefix: what announces the answer. None: the first candidate counts. Present: the first after it.
        Absent from the text: the last candidate of the whole text.
    """
    everywhere = candidates(task, text)
    correct_format = answer_prefix is None or answer_prefix in text
    if answer_prefix is None:
        prediction = everywhere[0] if everywhere else None
    elif correct_format:
        after = candidates(task, text.split(answer_prefix, 1)[1])
        prediction = after[0] if after else None
    else:
        prediction = everywhere[-1] if everywhere else None
    return Verdict(
        correct=prediction is not None and equal(task, prediction, gold),
        prediction=prediction,
        contains_answer=any(equal(task, candidate, gold) for candidate in everywhere),
        correct_format=correct_format,
    )


def candidates(task: Task, text: str) -> list[str]:
    """Everything in the text that could be an answer of the task's kind, in order."""
    match task.answer_type:
        case "integer" | "float":
            return _NUMBER.findall(text.replace(",", ""))
        case "yes_no":
            words = _YES_NO_NOISE.sub(" ", text.lower()).split(" ")
            return [word for word in words if word in ("yes", "no")]
        case "letters":
            remainder = _LETTER_NOISE.sub("", text)
            return [remainder] if remainder else []
        case "word":
            return [word for word in text.split() if word in task.choices]


def equal(task: Task, candidate: str, gold: str) -> bool:
    """Whether a candidate is the gold answer, by the task's rule."""
    match task.answer_type:
        case "integer":
            return candidate == gold.replace(",", "")
        case "float":
            return abs(float(candidate) - float(gold.replace(",", ""))) <= _CLOSE_ENOUGH
        case _:
            return candidate == gold
