"""The generated task: right answers, no leakage, closed vocabulary."""

from __future__ import annotations

import pytest

from ftcot_jax.errors import UsageError
from ftcot_jax.tasks.load import load_task
from ftcot_jax.tasks.settings import TaskSettings
from ftcot_jax.tasks.weekday import DAYS, parse, questions, solve, vocabulary


def test_answers_by_hand() -> None:
    assert parse("Ida starts Thu . 1 later . 3 before . 2 later ?") == (
        "Thu",
        [(1, "later"), (3, "before"), (2, "later")],
    )
    assert solve("Thu", [(1, "later"), (3, "before"), (2, "later")]) == "Thu"
    assert solve("Mon", [(1, "before")]) == "Sun"


@pytest.mark.parametrize("text", ["", "Ida starts Thu ?", "Ida ends Thu . 1 later ?", "Ida starts Thu . 1 after ?"])
def test_other_text_is_not_a_question(text: str) -> None:
    with pytest.raises(ValueError, match="not a weekday question"):
        parse(text)


def test_no_held_out_question_is_shown_in_training() -> None:
    made = questions(seed=4, train=300, test=200)
    cases = [question.question.split(" ", 1)[1] for question in made]
    assert len(set(cases)) == 500
    assert made == questions(seed=4, train=300, test=200)
    assert made != questions(seed=5, train=300, test=200)
    words = set(vocabulary())
    for question in made:
        assert set(question.question.split()) | {question.answer} <= words
        assert question.answer == solve(*parse(question.question))
    assert all(40 < [question.answer for question in made].count(day) < 110 for day in DAYS)


def test_more_questions_than_there_are() -> None:
    with pytest.raises(UsageError, match="has 1512 different questions, not 2200"):
        load_task(TaskSettings(key="weekday_tracking", train_questions=2000, test_questions=200))
