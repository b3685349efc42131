"""Selection: first D, then the filter, then so many a question; every pair accounted for."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftcot_jax.errors import FtcotError
from ftcot_jax.rationales.pair_table import PairTable
from ftcot_jax.rationales.pairs import Pair
from ftcot_jax.rationales.select import Selection, Yield, question_subset, select
from ftcot_jax.rationales.settings import SelectSettings
from ftcot_jax.tasks.question import Question
from ftcot_jax.tasks.registry import TASKS
from ftcot_jax.tasks.task import Split, TaskData

Row = tuple[int, int, bool]


def pair(sample: int, completion: int, correct: bool, rationale: str = "", prediction: str | None = "7") -> Pair:
    return Pair(sample, completion, "q", "l", correct, rationale or f"r{sample} {completion}", "7", prediction)


def table(pairs: list[Pair], train: tuple[int, ...] = (0, 1, 2), test: tuple[int, ...] = (9,)) -> PairTable:
    questions = {index: Question(index, f"question {index}" + "?" * index, "7") for index in {*train, *test}}
    return PairTable.of(TaskData(TASKS["multiarith"], questions, Split(train, test)), pairs)


# question 0: completions right, wrong, right; question 1: wrong, wrong, right; question 2: all wrong
RIGHT = {(0, 0), (0, 2), (1, 2)}
PAIRS = [pair(sample, completion, (sample, completion) in RIGHT) for sample in range(3) for completion in range(3)]


def chosen(train: tuple[int, ...] = (0, 1, 2), **settings: object) -> list[tuple[int, int]]:
    selection = select(table(PAIRS, train), SelectSettings(**settings))  # type: ignore[arg-type]
    return [(PAIRS[place].sample_index, PAIRS[place].completion_index) for place in selection.chosen]


def accounted(selection: Selection) -> int:
    """Every pair is kept or has a reason."""
    report = dataclasses.asdict(selection.report)
    return sum(count for name, count in report.items() if name not in ("pairs", "repeated", "questions", "covered"))


def test_first_d_then_filter() -> None:
    assert chosen(diversity=1) == [(0, 0)]
    assert chosen(diversity=2) == [(0, 0)]
    assert chosen(diversity=3) == [(0, 0), (0, 2), (1, 2)]
    assert chosen(diversity=2, filter="none") == [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]


def test_first_right_of_d_is_the_coverage_control() -> None:
    assert chosen(diversity=3, per_question=1) == [(0, 0), (1, 2)]


def test_only_training_questions() -> None:
    assert chosen(train=(1, 2)) == [(1, 2)]


def test_report_accounts_for_every_pair() -> None:
    selection = select(table(PAIRS, (0, 1)), SelectSettings(diversity=2, per_question=1))
    expected = dict.fromkeys([field.name for field in dataclasses.fields(Yield)], 0)
    expected |= {"pairs": 9, "other_questions": 3, "beyond_diversity": 2, "wrong": 3, "kept": 1, "questions": 2}
    assert dataclasses.asdict(selection.report) == expected | {"covered": 1}
    assert accounted(selection) == 9


def test_nothing_left_stops_with_the_counts() -> None:
    with pytest.raises(FtcotError, match=r"^0 of 3 rationales are right, for 1 training questions .*wrong: 3"):
        chosen(train=(2,))
    with pytest.raises(FtcotError, match=r"0 of 0 rationales are left, for 1 training .*other questions: 9\); raise"):
        chosen(train=(9,))
    with pytest.raises(FtcotError, match="no completion is of the training split"):
        select(table([]), SelectSettings())
    with pytest.raises(FtcotError, match=r"0 of 9 rationales are left.*wrong: 4, out of length: 5\); widen select"):
        select(table([dataclasses.replace(p, correct=n < 5) for n, p in enumerate(PAIRS)]), SelectSettings(min_words=9))


def test_question_subset_is_the_papers_rule() -> None:
    train = (3, 5, 8, 13, 21, 34)
    for seed in (0, 4):
        order = np.random.RandomState(seed).permutation(6)
        settings = SelectSettings(max_questions=4, subset_seed=seed)
        assert list(question_subset(train, settings)) == sorted(np.array(train)[order[:4]])
    assert list(question_subset(train, SelectSettings())) == list(train)
    for share, count in ((0.5, 3), (0.01, 1), (1.0, 6)):
        by_number = question_subset(train, SelectSettings(max_questions=count))
        assert list(question_subset(train, SelectSettings(question_share=share))) == list(by_number)
    with pytest.raises(ValueError, match="max_questions or question_share, not both"):
        SelectSettings(max_questions=1, question_share=0.5)


def test_majority_needs_no_gold_answers() -> None:
    answers = {0: ["3", "4", "3", "3"], 1: ["5", "6", None, "7"], 2: ["8", "8", "9", "9"]}
    pairs = [pair(q, c, False, prediction=answer) for q, row in answers.items() for c, answer in enumerate(row)]
    by_share = {}
    with pytest.raises(FtcotError, match="wrong: 12"):
        select(table(pairs), SelectSettings(filter="majority", majority_share=1.0))
    for share in (0.25, 0.5, 0.75):
        selection = select(table(pairs), SelectSettings(filter="majority", majority_share=share))
        by_share[share] = [(pairs[place].sample_index, pairs[place].completion_index) for place in selection.chosen]
        assert accounted(selection) == 12
    three = [(0, 0), (0, 2), (0, 3)]
    assert by_share == {0.25: three, 0.5: three, 0.75: three}  # question 1 has three answers, question 2 a tie
    early = select(table(pairs), SelectSettings(filter="majority", diversity=2))
    assert [pairs[place].prediction for place in early.chosen] == ["8", "8"]


def test_completions_without_an_answer_vote_against_all() -> None:
    silent = [dataclasses.replace(pair(0, number, False, prediction=None), answer="") for number in range(3)]
    pairs = [*silent, pair(0, 3, False, prediction="5")]
    with pytest.raises(FtcotError, match="wrong: 4"):
        select(table(pairs), SelectSettings(filter="majority", majority_share=0.5))
    assert select(table(pairs), SelectSettings(filter="majority", majority_share=0.25)).chosen.tolist() == [3]


def test_pairs_without_an_answer_cannot_train() -> None:
    pairs = [dataclasses.replace(pair(0, 0, False), answer=""), pair(0, 1, False)]
    selection = select(table(pairs), SelectSettings(filter="none"))
    assert (selection.chosen.tolist(), selection.report.no_answer) == ([1], 1)


def test_length() -> None:
    pairs = [pair(0, number, True, "w " * (number + 1)) for number in range(5)]
    selection = select(table(pairs), SelectSettings(min_words=2, max_words=4))
    assert (selection.chosen.tolist(), selection.report.out_of_length) == ([1, 2, 3], 2)
    with pytest.raises(ValueError, match="min_words is more than max_words"):
        SelectSettings(min_words=3, max_words=2)


def test_duplicates_are_dropped_after_the_filter_and_before_the_cap() -> None:
    texts = ["3 + 4 = 7. So 7.", "First: 3+4=7, so it is 7", "Three and four.", "three  and four", "Three and four."]
    pairs = [pair(0, number, number > 0, text) for number, text in enumerate(texts)]
    kept = {
        rule: select(table(pairs), SelectSettings(duplicates=rule)).chosen.tolist()  # type: ignore[arg-type]
        for rule in ("keep", "exact", "near")
    }
    assert kept == {"keep": [1, 2, 3, 4], "exact": [1, 2, 3], "near": [1, 2]}
    capped = select(table(pairs), SelectSettings(duplicates="near", per_question=2))
    assert (capped.chosen.tolist(), capped.report.duplicates, capped.report.wrong) == ([1, 2], 2, 1)


def test_decontamination() -> None:
    questions = {0: "Ann has 3.", 1: "Bob has 4.", 2: "Is it?", 8: "bob  has 4.", 9: "Cy has 5."}
    data = TaskData(
        TASKS["multiarith"], {i: Question(i, q, "7") for i, q in questions.items()}, Split((0, 1, 2), (8, 9))
    )
    pairs = [pair(question, 0, True) for question in range(3)]
    kept = {
        rule: select(PairTable.of(data, pairs), SelectSettings(decontaminate=rule)).chosen.tolist()  # type: ignore[arg-type]
        for rule in ("no", "text", "template")
    }
    assert kept == {"no": [0, 1, 2], "text": [0, 2], "template": [2]}


def test_balance_repeats_until_every_question_has_as_many() -> None:
    pairs = [pair(0, 0, True), pair(1, 0, True), pair(1, 1, True), pair(1, 2, True), pair(2, 0, True), pair(2, 1, True)]
    selection = select(table(pairs), SelectSettings(balance=True))
    assert selection.chosen.tolist() == [0, 0, 0, 1, 2, 3, 4, 5, 4]
    assert (selection.report.kept, selection.report.repeated) == (6, 3)


def test_records_that_were_too_long_are_counted_before_the_cap() -> None:
    pairs = [pair(0, number, True) for number in range(3)]
    selection = select(table(pairs), SelectSettings(per_question=1), fits=np.array([False, True, True]))
    assert (selection.chosen.tolist(), selection.report.too_long, selection.report.beyond_per_question) == ([1], 1, 1)


@given(
    rows=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.booleans()), unique_by=lambda r: r[:2]),
    diversity=st.integers(1, 6) | st.none(),
    per_question=st.integers(1, 6) | st.none(),
)
def test_equals_the_rule_written_as_a_loop(rows: list[Row], diversity: int | None, per_question: int | None) -> None:
    rows.sort()
    expected: list[int] = []
    for question in range(6):
        mine = [(row[1], place) for place, row in enumerate(rows) if row[0] == question]
        first = [place for completion, place in mine if diversity is None or completion < diversity]
        right = [place for place in first if rows[place][2]]
        expected += right[:per_question]
    pairs = table([pair(*row) for row in rows], tuple(range(6)))
    settings = SelectSettings(diversity=diversity, per_question=per_question)
    if not expected:
        with pytest.raises(FtcotError, match=r"^0 of \d+ rationales are"):
            select(pairs, settings)
        return
    selection = select(pairs, settings)
    assert selection.chosen.tolist() == expected
    assert accounted(selection) == selection.report.pairs == len(rows)
