"""The small checkpoints, written once a session, and the real student."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ftcot_jax.students.student import Student
from tests.students.cases import CASES, write_case


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Student]:
    """Returns a case's student by name; its checkpoint folder is `student.folder`."""
    made: dict[str, Student] = {}

    def get(name: str) -> Student:
        if name not in made:
            made[name] = write_case(name, tmp_path_factory.mktemp(name))
        return made[name]

    return get


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    return request.param
