"""How many rows are decoded for the tokens that are written: counted on the host, with a device that only counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ftcot_jax.generation import board, generate
from ftcot_jax.students.student import Student
from tests.students.conftest import written

__all__ = ["written"]


class Counter:
    """Stands for the device: every text goes on to the end of its budget, at no cost."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.steps_by_rows: dict[int, int] = {}
        for name in ("prefill", "copy_rows", "rearrange", "new_cache"):
            monkeypatch.setattr(board, name, lambda *given: None)
        monkeypatch.setattr(board, "decode_chunk", self._decode)
        monkeypatch.setattr(generate, "lay_out_one", lambda student, params: None)

    def _decode(
        self, student: Any, mesh: Any, weights: Any, cache: Any, rows: Any, leave_at: int, *rest: Any
    ) -> tuple[None, np.ndarray]:
        budget, steps = rows.budget.copy(), rest[-1]
        written = np.full((*budget.shape, steps), board.NOTHING, np.int32)
        for step in range(steps):
            if (budget > 0).sum() <= leave_at:
                break
            written[..., step][budget > 0] = 5
            budget[budget > 0] -= 1
            self.steps_by_rows[budget.shape[1]] = self.steps_by_rows.get(budget.shape[1], 0) + 1
        return None, written


def occupancy(student: Student, lengths: list[int], monkeypatch: pytest.MonkeyPatch) -> tuple[float, dict[int, int]]:
    counter = Counter(monkeypatch)
    prompts = [[3 + number % 7] * (1 + number % 5) for number in range(len(lengths))]
    texts = generate.generate(student, None, prompts, max_length=96, max_new_tokens=lengths, ignore_end=True)
    assert [len(text.tokens) for text in texts] == lengths
    decoded = sum(rows * steps for rows, steps in counter.steps_by_rows.items())
    return sum(lengths) / decoded, counter.steps_by_rows


def test_rows_that_ended_are_not_decoded(written: Callable[[str], Student], monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    share, _ = occupancy(written("llama"), draw.integers(5, 60, size=96).tolist(), monkeypatch)
    assert share > 0.85


def test_a_runaway_is_not_decoded_with_the_rows_it_outlives(
    written: Callable[[str], Student], monkeypatch: pytest.MonkeyPatch
) -> None:
    share, steps_by_rows = occupancy(written("llama"), [4] * 31 + [90], monkeypatch)
    assert steps_by_rows == {32: 4, 1: 86}
    assert share > 0.95
    _, steps_by_rows = occupancy(written("llama"), [90] * 5 + [4] * 27, monkeypatch)
    assert steps_by_rows == {32: 4, 8: 86}
