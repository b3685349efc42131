"""Selection: first D, then the filter, then so many a question; every pair accounted for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftcot_jax.errors import FtcotError
from ftcot_jax.rationales.select import question_subset, select
from ftcot_jax.rationales.settings import SelectSettings

# question 0: completions right, wrong, right; question 1: wrong, wrong, right; question 2: all wrong
SAMPLE = np.repeat([0, 1, 2], 3)
COMPLETION = np.tile([0, 1, 2], 3)
CORRECT = np.array([1, 0, 1, 0, 0, 1, 0, 0, 0], bool)


def chosen(train: tuple[int, ...] = (0, 1, 2), **settings: object) -> list[tuple[int, int]]:
    places = select(SAMPLE, COMPLETION, CORRECT, train, SelectSettings(**settings)).chosen  # type: ignore[arg-type]
    return [(int(SAMPLE[place]), int(COMPLETION[place])) for place in places]


def test_first_d_then_filter() -> None:
    assert chosen(diversity=1) == [(0, 0)]
    assert chosen(diversity=2) == [(0, 0)]
    assert chosen(diversity=3) == [(0, 0), (0, 2), (1, 2)]
    assert chosen(diversity=2, only_correct=False) == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]


def test_first_right_of_d_is_the_coverage_control() -> None:
    assert chosen(diversity=3, per_question=1) == [(0, 0), (1, 2)]


def test_only_training_questions() -> None:
    assert chosen(train=(1, 2)) == [(1, 2)]


def test_report_accounts_for_every_pair() -> None:
    report = select(SAMPLE, COMPLETION, CORRECT, (0, 1), SelectSettings(diversity=2, per_question=1)).report
    assert (report.pairs, report.other_questions, report.beyond_diversity, report.wrong) == (9, 3, 2, 3)
    assert (report.beyond_per_question, report.kept, report.questions, report.covered) == (0, 1, 2, 1)


def test_nothing_left_stops_with_the_counts() -> None:
    with pytest.raises(FtcotError, match=r"^0 of 3 rationales are right, for 1 training questions .*wrong: 3"):
        chosen(train=(2,))
    with pytest.raises(FtcotError, match="0 of 0 rationales are right"):
        chosen(train=(9,))


def test_question_subset_is_the_papers_rule() -> None:
    train = (3, 5, 8, 13, 21, 34)
    order = np.random.RandomState(0).permutation(6)
    assert list(question_subset(train, SelectSettings(max_questions=4))) == sorted(np.array(train)[order[:4]])
    assert list(question_subset(train, SelectSettings())) == list(train)


@given(
    rows=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.booleans()), unique_by=lambda r: r[:2]),
    diversity=st.integers(1, 6) | st.none(),
    per_question=st.integers(1, 6) | st.none(),
)
def test_equals_the_rule_written_as_a_loop(
    rows: list[tuple[int, int, bool]], diversity: int | None, per_question: int | None
) -> None:
    expected: list[int] = []
    for question in range(6):
        mine = sorted((row[1], place) for place, row in enumerate(rows) if row[0] == question)
        first = [place for completion, place in mine if diversity is None or completion < diversity]
        right = [place for place in first if rows[place][2]]
        expected += right[:per_question]
    arrays = [np.array([row[column] for row in rows], dtype) for column, dtype in enumerate((int, int, bool))]
    settings = SelectSettings(diversity=diversity, per_question=per_question)
    if not expected:
        with pytest.raises(FtcotError, match="rationales are right"):
            select(*arrays, range(6), settings)
        return
    selection = select(*arrays, range(6), settings)
    assert sorted(selection.chosen) == sorted(expected)
    report = selection.report
    parts = (report.other_questions, report.beyond_diversity, report.wrong, report.beyond_per_question, report.kept)
    assert sum(parts) == report.pairs == len(rows)
