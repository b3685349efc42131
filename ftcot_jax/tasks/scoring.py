"""Scoring a completion: the paper's rules, or those a reader of today expects."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Literal

from ftcot_jax.tasks import paper_scoring, robust_scoring
from ftcot_jax.tasks.task import Task

Scoring = Literal["paper", "robust"]


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """What the scorer says of one text.

    Attributes:
      correct: the chosen candidate equals the gold answer.
      prediction: the chosen candidate as text, None if there is none.
      contains_answer: some candidate equals the gold answer.
      correct_format: the template's prefix is in the text, or it has none.
      complete: the writer stopped by itself, not at a limit.
    """

    correct: bool
    prediction: str | None
    contains_answer: bool
    correct_format: bool
    complete: bool


def score(
    task: Task,
    text: str,
    gold: str,
    answer_prefix: str | None,
    scoring: Scoring = "paper",
    finish_reason: str | None = None,
) -> Verdict:
    """Scores a completion; no text raises.

    Args:
      task: decides what a candidate is and when two answers are equal.
      text: the completion.
      gold: the right answer.
      answer_prefix: what announces the answer in the template's texts; None where a text is all answer.
      scoring: "paper", the reference's rules with what they get wrong; "robust" reads what a person would.
      finish_reason: the server's or the generator's; "stop" is complete.
    """
    match scoring:
        case "paper":
            found = paper_scoring.find(task, text, answer_prefix)
            equal: Callable[[Task, str, str], bool] = paper_scoring.equal
        case "robust":
            found = robust_scoring.find(task, text, answer_prefix)
            equal = robust_scoring.equal
    return Verdict(
        correct=found.prediction is not None and equal(task, found.prediction, gold),
        prediction=found.prediction,
        contains_answer=any(equal(task, candidate, gold) for candidate in found.candidates),
        correct_format=answer_prefix is None or answer_prefix in text,
        complete=finish_reason == "stop",
    )


def check_gold(task: Task, gold: str) -> str | None:
    """Says what is wrong with a gold answer of a task, or None."""
    match task.answer_type:
        case "choice" | "word" if gold not in task.choices:
            return f"answer {gold!r} is not one of its choices {', '.join(task.choices)}"
        case "yes_no" if gold.lower() not in ("yes", "no"):
            return f"answer {gold!r} is neither yes nor no"
        case "integer" if not re.fullmatch(r"-?\d[\d,]*", gold):
            return f"answer {gold!r} is not a whole number in digits"
        case "float" if not re.fullmatch(r"-?[\d,]*\.?\d+", gold):
            return f"answer {gold!r} is not a number in digits"
        case "letters" if not gold.isalpha():
            return f"answer {gold!r} is not letters only"
    return None


def same_answer(task: Task, one: str, other: str, scoring: Scoring) -> bool:
    """Whether two answers of a task are the same."""
    equal = paper_scoring.equal if scoring == "paper" else robust_scoring.equal
    return equal(task, one, other)


def majority(task: Task, predictions: Sequence[str | None], scoring: Scoring) -> tuple[str | None, float]:
    """The answer more predictions agree on than on any other, and the share of all of them that do.

    Returns:
      (None, 0.0) where there is no prediction, or two answers have as many.

    Args:
      task: decides when two answers are the same.
      predictions: a question's, None where a completion gave no answer (it counts against every answer).
      scoring: whose rules.
    """
    votes: dict[str, int] = {}
    for prediction in predictions:
        if prediction is not None:
            first = next((known for known in votes if same_answer(task, prediction, known, scoring)), prediction)
            votes[first] = votes.get(first, 0) + 1
    if not votes:
        return None, 0.0
    winner = max(votes, key=votes.__getitem__)
    if list(votes.values()).count(votes[winner]) > 1:
        return None, 0.0
    return winner, votes[winner] / len(predictions)
