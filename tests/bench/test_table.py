"""Figures in a table and in a file, and what work takes of the machine."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from ftcot_jax.bench.table import Spread, markdown, number, publish
from ftcot_jax.bench.usage import measure


@pytest.mark.parametrize(
    ("value", "said"),
    [(12345.6, "12346"), (99.96, "100.0"), (12.34, "12.3"), (1.234, "1.23"), (0.01234, "0.0123"), (0, "0"), (7, "7")],
)
def test_numbers_have_the_digits_that_count(value: float, said: str) -> None:
    assert number(value) == said


def test_a_table_has_a_cell_for_each_figure() -> None:
    rows = [{"name": "a", "rate": Spread.of([3, 1, 2]), "n": 64}, {"name": "b", "rate": None, "n": 1}]
    assert markdown(rows).splitlines() == [
        "| name | rate | n |",
        "| --- | --- | --- |",
        "| a | 2 (1 to 3) | 64 |",
        "| b | - | 1 |",
    ]


def test_the_file_has_what_the_table_shows(tmp_path: Path) -> None:
    said: list[str] = []
    figures = publish({"rows": [{"rate": Spread(2.0, 1.0, 3.0)}], "more": 1}, str(tmp_path / "f.json"), said.append)
    assert json.loads((tmp_path / "f.json").read_text()) == figures
    assert figures == {"rows": [{"rate": {"median": 2.0, "low": 1.0, "high": 3.0}}], "more": 1}
    assert said == ["| rate |\n| --- |\n| 2.00 (1.00 to 3.00) |"]


def test_memory_of_one_piece_of_work_is_not_that_of_the_one_before() -> None:
    large = measure(lambda: np.ones(12_500_000).sum())  # 100 MB
    small = measure(lambda: time.sleep(0.02))
    assert large.new_bytes is None or 80e6 < large.new_bytes < 200e6
    assert small.new_bytes is None or small.new_bytes < 20e6
    assert small.seconds >= 0.02
    assert small.cpu_seconds < small.seconds + 0.05
