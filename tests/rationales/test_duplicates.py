"""When two rationales say the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftcot_jax.rationales.duplicates import equation_sequence, exact_key, first_with, repeats, text_key


@pytest.mark.parametrize(
    ("rationale", "equations"),
    [
        ("He has 3 x 4 = 12 eggs. Then 12 - 5 = 7.", ("3*4=12", "12-5=7")),
        ("$1,200 ÷ 4=$300", ("1200/4=300",)),
        ("(3 + 4) × 2 = 14", ("(3+4)*2=14",)),
        ("There were 12 and now 7.", ()),
        ("So x = 7", ()),
    ],
)
def test_equation_sequence(rationale: str, equations: tuple[str, ...]) -> None:
    assert equation_sequence(rationale) == equations


def test_text_key_ignores_spelling_and_keeps_signs() -> None:
    assert text_key(" Three, and  FOUR!\n") == text_key("three and four")
    assert text_key("3 + 4") != text_key("3 - 4")


def again(questions: list[int], texts: list[str], near: bool, arithmetic: bool) -> list[bool]:
    """As the table asks it."""
    kinds = 1 + (near and arithmetic)
    keys = [(text_key(text) if near else exact_key(text), equation_sequence(text) or None)[:kinds] for text in texts]
    return repeats(*first_with(zip(questions, keys, strict=True), kinds)).tolist()


def test_repeats_are_within_a_question() -> None:
    texts = ["a", "a ", "A", "a"]
    assert again([0, 0, 0, 1], texts, near=False, arithmetic=False) == [False, True, False, False]
    assert again([0, 0, 0, 1], texts, near=True, arithmetic=False) == [False, True, True, False]


def test_equal_equations_are_equal_reasoning_in_arithmetic_alone() -> None:
    texts = ["He is 20 - 10 = 10, so yes.", "Rome fell. 20-10=10. So no."]
    assert again([0, 0], texts, near=True, arithmetic=True) == [False, True]
    assert again([0, 0], texts, near=True, arithmetic=False) == [False, False]


def test_keys_are_numbered_by_the_first_place_that_has_them() -> None:
    rows = [(4, ("a", None)), (4, ("b", "x")), (4, ("a", "x")), (7, ("a", "x"))]
    assert [numbers.tolist() for numbers in first_with(rows, 2)] == [[0, 1, 0, 3], [-1, 1, 1, 3]]
    assert [numbers.tolist() for numbers in first_with([], 2)] == [[], []]


@given(st.lists(st.tuples(st.integers(0, 2), st.text("ab1+= .", max_size=8))).map(sorted))
def test_what_is_left_repeats_nothing_and_covers_everything(rows: list[tuple[int, str]]) -> None:
    twice = again([row[0] for row in rows], [row[1] for row in rows], near=False, arithmetic=True)
    left = [(question, text.strip()) for (question, text), second in zip(rows, twice, strict=True) if not second]
    assert len(left) == len(set(left))
    assert set(left) == {(question, text.strip()) for question, text in rows}
