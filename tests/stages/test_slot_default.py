"""How many trials stand side by side where the recipe does not say."""

from __future__ import annotations

import pytest

from ftcot_jax.stages.groups import slots
from ftcot_jax.students.load import load_student
from ftcot_jax.students.settings import StudentSettings
from ftcot_jax.students.student import Student
from ftcot_jax.sweeps.plan_work import tree_bytes
from ftcot_jax.training.settings import TrainSettings

ALONE = {"trial": 1, "data": 1, "fsdp": 1, "tensor": 1}


@pytest.fixture(scope="module")
def student() -> Student:
    fields = {"model_type": "gpt2", "n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 32}
    return load_student(StudentSettings(scratch=fields), ["a", "word"])


def test_an_eighth_of_the_memory_is_for_state(student: Student) -> None:
    state = 4 * tree_bytes(student.shapes)  # weights, gradients, two moments

    def default(eighths: float, trials: int = 100, **axes: int) -> int:
        return slots(TrainSettings(), student, trials, ALONE | axes, "tpu", 8 * state * eighths)

    assert [default(eighths) for eighths in (0.1, 1.5, 3.2, 50)] == [1, 1, 3, 8]
    assert default(3.2, trial=4) == 12
    assert default(3.2, trial=4, trials=6) == 8, "a multiple of the places"
    assert default(1.5, fsdp=4) == 6, "each device has a quarter of the state"
    assert default(1.5, data=4) == 1, "each device has all of it"


def test_what_is_asked_for_is_given(student: Student) -> None:
    assert slots(TrainSettings(slots=5), student, 100, ALONE, "tpu", 1.0) == 5
    assert slots(TrainSettings(slots=5), student, 3, ALONE, "cpu", None) == 3


def test_one_where_a_student_fills_the_machine_or_nobody_knows(student: Student) -> None:
    assert slots(TrainSettings(), student, 100, ALONE, "cpu", 1e12) == 1
    assert slots(TrainSettings(), student, 100, ALONE, "gpu", None) == 1
