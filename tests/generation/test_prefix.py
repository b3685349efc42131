"""What all prompts begin with is read once, kept once, and changes no text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ftcot_jax.generation import board
from ftcot_jax.generation.generate import generate
from ftcot_jax.generation.sampling import Sampling
from ftcot_jax.students.student import Student
from tests.students.conftest import written

__all__ = ["written"]

SHOWN = np.random.default_rng(7).integers(2, 90, size=37).tolist()
"""Exemplars: of 37 tokens, 32 are kept as prefix."""
QUESTIONS = [np.random.default_rng(n).integers(2, 90, size=n).tolist() for n in (1, 2, 9, 5, 12, 3)]


SLOW_ONES = [pytest.param(case, marks=pytest.mark.slow) for case in ("gpt2", "smollm3")]


@pytest.mark.parametrize("case", ["llama", *SLOW_ONES])
def test_a_shared_prefix_changes_no_text(
    case: str, written: Callable[[str], Student], monkeypatch: pytest.MonkeyPatch
) -> None:
    student = written(case)
    params, prompts = student.load(), [SHOWN + question for question in QUESTIONS]
    alone = [generate(student, params, [prompt], max_length=70)[0] for prompt in prompts]  # one prompt shares nothing
    read: list[int] = []
    read_prefix = board.read_prefix

    def counted(student: Student, mesh: Any, weights: Any, tokens: np.ndarray) -> Any:
        read.append(len(tokens))
        return read_prefix(student, mesh, weights, tokens)

    monkeypatch.setattr(board, "read_prefix", counted)
    assert generate(student, params, prompts, max_length=70, batch_rows=4) == alone
    assert read == [32]
    sampling = Sampling(samples=3)
    samples = generate(student, params, prompts[:1], max_length=70, sampling=sampling)
    assert read == [32, 32]
    monkeypatch.setattr(board, "_PREFIX_STEP", 1000)
    assert generate(student, params, prompts[:1], max_length=70, sampling=sampling) == samples
    assert read == [32, 32]


def test_prompts_that_are_the_prefix_and_no_more(written: Callable[[str], Student]) -> None:
    student = written("llama")
    params, prompts = student.load(), [SHOWN[:33], SHOWN[:33], SHOWN]
    alone = [generate(student, params, [prompt], max_length=60)[0] for prompt in prompts]
    assert generate(student, params, prompts, max_length=60) == alone


def test_an_encoder_reads_each_prompt_whole(written: Callable[[str], Student]) -> None:
    student = written("t5")
    params, prompts = student.load(), [SHOWN + question for question in QUESTIONS[:3]]
    alone = [generate(student, params, [prompt], max_length=50)[0] for prompt in prompts]
    assert generate(student, params, prompts, max_length=50) == alone
