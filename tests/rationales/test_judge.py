"""Verdicts on one-step and two-step completions, and the pairs made of them."""

from __future__ import annotations

import pytest

from ftcot_jax.errors import FtcotError
from ftcot_jax.rationales.judge import judge
from ftcot_jax.rationales.pairs import answer_pairs, rationale_pairs
from ftcot_jax.tasks.question import Question
from ftcot_jax.tasks.registry import TASKS
from ftcot_jax.tasks.task import Split, TaskData
from ftcot_jax.tasks.templates import get_template
from ftcot_jax.teacher.completion import Completion

QUESTIONS = {0: Question(0, "3 + 4?", "7"), 1: Question(1, "Open?", ""), 2: Question(2, "Held out?", "1")}
DATA = TaskData(TASKS["multiarith"], QUESTIONS, Split((0, 1), (2,)))
COT = get_template("ft_cot_token")


def completion(sample: int, number: int, reasoning: str | None, text: str) -> Completion:
    return Completion(sample, number, QUESTIONS[sample].question, "7", "p", reasoning, None, "p", text, "stop")


def test_two_steps() -> None:
    judged = list(judge(DATA, [completion(0, 0, " 3 + 4 = 7", " 7."), completion(0, 1, "r", "8")]))
    assert [(row.rationale, row.prediction, row.correct) for row in judged] == [
        (" 3 + 4 = 7", "7", True),
        ("r", "8", False),
    ]


def test_one_step_ends_the_rationale_at_the_announcement() -> None:
    text = "3 + 4 = 7. The answer is 7."
    judged = list(judge(DATA, [completion(0, 0, None, text)], "The answer is"))
    assert (judged[0].rationale, judged[0].correct) == ("3 + 4 = 7. ", True)
    assert next(judge(DATA, [completion(0, 0, None, text)])).rationale == text


def test_scoring_by_choice() -> None:
    rows = [completion(0, 0, "r", "7.0")]
    assert not next(judge(DATA, rows)).correct
    assert next(judge(DATA, rows, scoring="robust")).correct


def test_labels_have_the_gold_answer_or_the_teachers_own() -> None:
    rows = [
        completion(0, 0, "r", "8"),
        completion(1, 0, "s", "5"),
        completion(1, 1, "s", "?"),
        completion(2, 0, "t", "1"),
    ]
    judged = list(judge(DATA, rows))
    pairs = list(rationale_pairs(DATA, judged, COT, COT.prompt))
    assert [pair.label for pair in pairs] == [" r --> 7", " s --> 5", " s --> "]
    assert [pair.answer for pair in pairs] == ["7", "5", ""]
    own = next(rationale_pairs(DATA, judged, COT, COT.prompt, own_answer=True))
    assert own.label == " r --> 8"


def test_answer_pairs_need_gold_answers() -> None:
    answers = get_template("ft_token")
    with pytest.raises(FtcotError, match="multiarith: question 1 has no answer for ft_token"):
        list(answer_pairs(DATA, answers, answers.prompt))
