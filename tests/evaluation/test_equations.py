"""The equations of rationales: what is wrong is found, and nothing else is called wrong."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftcot_jax.evaluation.equations import check_equations
from ftcot_jax.teacher.completion import read_completions


def slips(text: str) -> list[str]:
    return [equation.text for equation in check_equations(text) if not equation.holds]


WRONG = [
    ("So 3 + 5 = 9.", "3 + 5 = 9"),
    ("That's 24 - 8 people = 15 people.", "24 - 8 people = 15 people"),
    ("10 books - 6 action figures = 5 more books", "10 books - 6 action figures = 5 more books"),
    ("It costs $1,200 + $300 = $1,600 in all", "$1,200 + $300 = $1,600 in all"),
    ("1.5 * 4 = 6.5", "1.5 * 4 = 6.5"),
    ("100/3 = 33.43", "100/3 = 33.43"),
    ("1/4 * 16 = 5", "1/4 * 16 = 5"),
    ("2 1/2 + 1 = 4", "2 1/2 + 1 = 4"),
    ("30% of 400 = 100", "30% of 400 = 100"),
    ("100% - 30% = 60%", "100% - 30% = 60%"),
    ("4(12) + 22 = 60 pink", "4(12) + 22 = 60 pink"),
    ("20 flowers/row x 4 rows = 90 flowers", "20 flowers/row x 4 rows = 90 flowers"),
    (r"\(\frac{1}{2} \times 10 = 6\)", "((1)/(2)) * 10 = 6"),
    ("5 × 6 = 35", "5 * 6 = 35"),
    ("2^3 = 9", "2^3 = 9"),
    ("5 plus 6 = 12", "5 + 6 = 12"),
    ("59 (total) - 7 (already in the vase) = 50 (roses)", None),
    ("2 + 3 = 5 = 6 - 2", "5 = 6 - 2"),
    ("34044 + 424944 = 459988", "34044 + 424944 = 459988"),
    ("$8 a pound * 3 pounds = $25", "$8 a pound * 3 pounds = $25"),
]


@pytest.mark.parametrize(("text", "found"), WRONG)
def test_wrong_equations_are_found(text: str, found: str | None) -> None:
    assert len(slips(text)) == 1
    if found is not None and "plus" not in text:
        assert slips(text) == [found]


@pytest.mark.parametrize(
    "text",
    [
        "He has 5 + 7 = 12 apples. Then 12 - 4 = 8 apples are left.",
        "a chain: 2*6 + 3*4 = 12 + 12 = 24",
        "a running sum: 3 + 4 = 7 + 5 = 12",
        "rounded: 100/3 = 33.33, 2/3 = 0.66, 2/3 = 0.67, 10/3 = 3 full boxes, 20/8 = 3 trips",
        "percent: 20% of 50 = 10; 50/200 = 25%; 1/4 = 25%; 20/80 * 100 = 25%; 100% - 30% = 70%",
        "money: $1,000/$250 = 4; $6*5*2 = $60; 2 x $1.50 = $3",
        "units: 29 kg + (29 kg/2) = 29 kg + 14.5 kg = 43.5 kg; 10 rows x 20 flowers/row x 4/5 = 160",
        "mixed: 2 1/2 + 1/2 = 3",
        "- 5 + 3 = 8",
        "implicit: 2(3 + 4) = 14",
        "minus: 178 - (-37) = 215; 3 - 5 = -2",
        "48 - 12 is the number left, and (57 - 27) / 6 = 5 toys",
        "So 8 people left, 24-8 = 16; 1/4 that number, so that's 16-1/4*16 = 12 people",
    ],
)
def test_right_equations_pass(text: str) -> None:
    assert check_equations(text)
    assert slips(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "27 = 3x + 15, 12 = 3x, x = 5",
        "x - 36 = 86 - x",
        "868 = Boys + 281",
        "5 + ? × 19 - 15 - 7 = 6",
        "f(2) = 4 and P(A/B) = 0.16 / B and sqrt(16) = 5",
        "1 dozen = 12, 1 hour = 60 minutes, the answer = 7",
        "1 hour - 20 minutes = 40 minutes; 5 dollars - 50 cents = 4.50 dollars",
        "8 coins * 25 cents each = $2",
        "3:00 + 2 = 5:00",
        "05/23/1943 + 1 = 05/24/1943; 8/3 - 7 = 7/27",
        "twice 5 + 3 = 16; 10% off 50 + 5 = 50",
        "7!/2!2!2! = 8! ways",
        "1/0 = 5",
        "MP3 = 8 - 5 + 30",
        "19xM + 18xT = 38; 6total number of kids = 3",
        "19 + 15 - 3 - 4 = 20 apples and 12 peaches",
        "2 => 3 + 4 == 8 != 1 <= 2 + 2",
        "50 + 10% = 55",
        "(((((((((((((((((((((((((1 = 2",
        "= = =",
        "",
    ],
)
def test_what_is_not_certain_is_not_judged(text: str) -> None:
    assert slips(text) == []


@given(st.text(alphabet="0123456789+-*/=()x%$., \nab^!", max_size=80))
@settings(max_examples=300, deadline=None)
def test_no_text_breaks_it(text: str) -> None:
    for equation in check_equations(text):
        assert equation.text.count("=") == 1


@given(st.integers(1, 999), st.integers(1, 999), st.sampled_from("+-*"), st.integers(-3, 3))
def test_whole_numbers(one: int, other: int, sign: str, off: int) -> None:
    right = {"+": one + other, "-": one - other, "*": one * other}[sign] + off
    (equation,) = check_equations(f"We find {one} {sign} {other} = {right}.")
    assert equation.holds == (off == 0)


def test_a_number_that_may_be_cut_proves_nothing() -> None:
    cut = "So 3 + 5 = 9, and 8.3 * 200 = $16"
    assert [equation.holds for equation in check_equations(cut)] == [False, False]
    assert [equation.text for equation in check_equations(cut, may_be_cut=True)] == ["3 + 5 = 9"]
    assert [equation.holds for equation in check_equations(cut + "60.", may_be_cut=True)] == [False, True]


def test_a_rambling_student_costs_no_time() -> None:
    began = time.monotonic()
    for text in (
        "1 + " * 20_000 + "= 3",
        "1 + 1 = 2 " * 5_000,
        "(" * 5_000 + "=" + "(" * 5_000,
        "9" * 20_000 + " + 1 = 5",
    ):
        check_equations(text)
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("key", "rows_with_a_slip", "rows"), [("multiarith", 7, 600), ("addsub", 3, 395), ("coin_flip", 0, 500)]
)
def test_published_rationales(shared: Path, key: str, rows_with_a_slip: int, rows: int) -> None:
    file = read_completions(shared / f"data/completions/B_text-davinci-002__C_zs_cot/D_{key}.json")
    found = [row for row in file.completions if slips(row.reasoning_completion or "")]
    assert (len(found), len(file.completions)) == (rows_with_a_slip, rows)
