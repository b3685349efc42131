"""The yield report: counts by D, as table, JSON and picture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ftcot_jax.errors import FtcotError
from ftcot_jax.rationales.pair_table import PairTable
from ftcot_jax.rationales.pairs import Pair
from ftcot_jax.rationales.settings import SelectSettings
from ftcot_jax.rationales.yield_report import plot_yield, yield_json, yield_markdown, yield_rows
from ftcot_jax.tasks.question import Question
from ftcot_jax.tasks.registry import TASKS
from ftcot_jax.tasks.task import Split, TaskData

DATA = TaskData(TASKS["multiarith"], {n: Question(n, f"q{n}", "7") for n in range(4)}, Split((0, 1, 2), (3,)))
# question 0: right from the start, and repeats itself; question 1: right the third time; question 2: never
TEXTS = {0: ["one two", "one  two", "three", "one"], 1: ["x"] * 2 + ["a b c d", "y"], 2: ["z"] * 4}
RIGHT = {(0, 0), (0, 1), (0, 2), (1, 2)}
TABLE = PairTable.of(
    DATA,
    [
        Pair(q, n, "p", "l", (q, n) in RIGHT, text, "7", "7")
        for q, texts in TEXTS.items()
        for n, text in enumerate(texts)
    ],
)


def test_rows_by_diversity() -> None:
    rows = yield_rows("mine", TABLE, SelectSettings())
    assert [row.diversity for row in rows] == [1, 2, 4]
    assert [(row.counts.kept, row.counts.covered, row.counts.wrong) for row in rows] == [
        (1, 1, 2),
        (2, 1, 4),
        (4, 2, 8),
    ]
    assert [row.near_duplicates for row in rows] == [0, 1, 1]
    assert rows[2].words == {"mean": 2.25, "median": 2.0, "p95": 3.7, "longest": 4.0}


def test_a_diversity_that_keeps_nothing_is_shown() -> None:
    rows = yield_rows("mine", TABLE, SelectSettings(min_words=4))
    counted = [(row.diversity, row.counts.kept, row.counts.out_of_length) for row in rows]
    assert counted == [(1, 0, 1), (2, 0, 2), (4, 1, 3)]
    assert "| mine | 1 | 0 of 3 | 0 | 2 | 1 | 0 |  |  |" in yield_markdown(rows)
    with pytest.raises(FtcotError, match=r"0 of 12 rationales are right.*out of length: 4"):
        yield_rows("mine", TABLE, SelectSettings(min_words=5))


def test_the_selections_own_diversity_is_the_largest() -> None:
    assert [row.diversity for row in yield_rows("mine", TABLE, SelectSettings(diversity=3))] == [1, 2, 3]
    assert [row.diversity for row in yield_rows("mine", TABLE, SelectSettings(diversity=64))] == [1, 2, 4]


def test_table_json_and_picture(tmp_path: Path) -> None:
    rows = yield_rows("mine", TABLE, SelectSettings())
    lines = yield_markdown(rows).splitlines()
    assert lines[0] == "| selection | D | questions covered | kept | wrong | near-duplicates kept | words, mean | 95% |"
    assert lines[4] == "| mine | 4 | 2 of 3 | 4 | 8 | 1 | 2.2 | 4 |"
    assert json.loads(yield_json(rows))[2]["counts"]["kept"] == 4
    plot_yield(rows, tmp_path / "yield")
    drawn = (tmp_path / "yield.svg").read_text()
    # Three panels, each with its title, axis label and the line of one selection: matplotlib notes every text it draws.
    for text, times in (("diversity degree D", 3), ("words a kept rationale, mean", 1), ("mine", 1)):
        assert drawn.count(f"<!-- {text} -->") == times
    assert (tmp_path / "yield.png").read_bytes().startswith(b"\x89PNG")
