"""A student is asked and scored, alone or with others; what cannot be asked is counted, or refused in one line."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import pytest

from ftcot_jax.errors import FtcotError
from ftcot_jax.evaluation.asking import Asking, questions_of
from ftcot_jax.evaluation.score_student import Due, score_student, score_students
from ftcot_jax.evaluation.settings import EvaluateSettings
from ftcot_jax.students.student import Student
from ftcot_jax.tasks.question import Question
from ftcot_jax.tasks.registry import get_task
from ftcot_jax.tasks.task import Split, TaskData
from ftcot_jax.tasks.templates import get_template
from tests.students.conftest import written

__all__ = ["written"]

TASK = get_task("multiarith")
ASK = Asking(get_template("ft_cot_token"), lambda question: question, "paper")
SHORT, LONG = "w1 w2 w3", " ".join(["w5"] * 120)


def questions(*texts: str) -> list[Question]:
    return [Question(index, text, "7") for index, text in enumerate(texts)]


def test_a_prompt_beyond_the_context_is_wrong_and_counted(written: Callable[[str], Student]) -> None:
    student = written("llama")
    params = student.load()
    both = score_student(student, params, TASK, questions(SHORT, LONG), ASK, EvaluateSettings(max_length=30))
    assert both.summary["questions"] == 2
    assert both.summary["prompt_too_long"] == 1
    assert both.outcomes[1] == 0
    assert [row.finish_reason for row in both.completions] == ["length", "prompt_too_long"]
    assert both.completions[1].completion == ""
    assert both.completions[1].prompt == LONG  # whole, not cut
    assert both.summary["tokens_written"] == 27
    alone = score_student(student, params, TASK, questions(SHORT), ASK, EvaluateSettings(max_length=30))
    assert alone.completions == both.completions[:1]


def test_students_scored_together_score_as_alone(written: Callable[[str], Student]) -> None:
    student = written("llama")
    params = [student.load(), student.init(jax.random.key(1)), student.init(jax.random.key(2))]
    cases = [
        Due(TASK, questions(SHORT, "w9 w1"), ASK, EvaluateSettings(max_length=20)),
        None,
        Due(TASK, questions("w4"), ASK, EvaluateSettings(max_length=12)),
    ]
    slots = jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)
    together = score_students(student, slots, cases)
    alone = [
        None if due is None else score_student(student, own, due.task, due.questions, due.ask, due.settings)
        for own, due in zip(params, cases, strict=True)
    ]
    assert together == alone
    assert alone[2] is not None
    assert 0 < alone[2].summary["tokens_written"] <= 11


def test_the_papers_lengths_are_a_switch() -> None:
    paper = EvaluateSettings(paper_lengths=True)
    assert [paper.length_after(epochs) for epochs in (0, 1, 2, 2.5, 3, 20)] == [256, 256, 256, 1024, 1024, 1024]
    assert EvaluateSettings().length_after(1) == 1024
    assert EvaluateSettings(paper_lengths=True, max_length=100).length_after(1) == 100
    ask = Due(TASK, [], ASK, paper, epochs=1)
    assert ask.max_length == 256
    assert Due(TASK, [], ASK, paper).max_length == 1024


def test_an_empty_split_is_refused() -> None:
    data = TaskData(TASK, {0: Question(0, "q", "1")}, Split((0,), ()))
    with pytest.raises(FtcotError, match="multiarith: the test split is empty; there is nothing to evaluate on"):
        questions_of(data, "test", None)
