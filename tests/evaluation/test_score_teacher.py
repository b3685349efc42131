"""The teacher's own score, by part of the split."""

from __future__ import annotations

import pytest

from ftcot_jax.evaluation.intervals import wilson
from ftcot_jax.evaluation.score_teacher import score_teacher
from ftcot_jax.tasks.question import Question
from ftcot_jax.tasks.registry import get_task
from ftcot_jax.tasks.task import Split, TaskData
from ftcot_jax.teacher.completion import Completion


def completion(index: int, number: int, answer: str) -> Completion:
    return Completion(index, number, "q", str(index), "p", "r", "stop", "p", answer, "stop")


def test_test_and_training_questions_apart() -> None:
    questions = {index: Question(index, "q", str(index)) for index in range(6)}
    data = TaskData(get_task("multiarith"), questions, Split((0, 1, 2, 3), (4, 5)))
    rows = [completion(index, 0, str(index) if index != 1 else "99") for index in range(5)]
    test, train = score_teacher(data, rows, None, "paper")
    assert (test.part, test.questions, test.completions, test.accuracy) == ("test", 1, 1, 1.0)
    assert (train.part, train.questions, train.completions, train.accuracy) == ("train", 4, 4, 0.75)
    assert train.interval == wilson(3, 4)
    twice = [completion(index, number, "0") for index in range(4) for number in range(2)]
    (drawn,) = score_teacher(data, twice, None, "paper")
    assert (drawn.completions, drawn.accuracy) == (8, 0.25)
    assert drawn.interval is not None
    (ragged,) = score_teacher(data, twice[1:], None, "paper")
    assert ragged.interval is None
    assert ragged.accuracy == pytest.approx(1 / 7)
