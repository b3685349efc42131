"""Categories on small cases."""

from __future__ import annotations

import pytest

from ftcot_jax.evaluation import categories
from ftcot_jax.evaluation.categories import CATEGORIES, categorize, repeats_itself
from ftcot_jax.tasks.registry import get_task
from ftcot_jax.tasks.scoring import score
from ftcot_jax.teacher.completion import Completion


def found(text: str, reason: str | None = "stop", rationale: str | None = None, thought: str | None = None) -> set[str]:
    """Categories of a text whose right answer is 8, in the form `rationale --> answer` or in two steps."""
    row = Completion(0, 0, "q", "8", rationale and "p", rationale, thought, "p", text, reason)
    prefix = "-->" if rationale is None else None
    verdict = score(get_task("multiarith"), text, "8", prefix, "paper", reason)
    return set(categorize(row, verdict).categories)


@pytest.mark.parametrize(
    ("text", "reason", "expected"),
    [
        ("3 + 5 = 8 --> 8", "stop", set()),
        ("3 + 5 = 9 --> 9", "stop", {categories.SLIP}),
        ("3 + 5 = 9 --> 8", "stop", {categories.SLIP, categories.RIGHT_BUT_SLIP}),
        ("3 + 5 = 8", "stop", {categories.WRONG_FORMAT}),
        ("3 + 5 = 8 --> none", "stop", {categories.WRONG_FORMAT}),
        ("3 + 5 = 8. Then we", "length", {categories.CUT_OFF, categories.WRONG_FORMAT}),
        ("He has 8. " * 12, "length", {categories.REPETITION, categories.CUT_OFF, categories.WRONG_FORMAT}),
        ("", "prompt_too_long", {categories.NOT_ANSWERED}),
        ("", "refused", {categories.NOT_ANSWERED}),
    ],
)
def test_one_step(text: str, reason: str, expected: set[str]) -> None:
    assert found(text, reason) == expected


def test_two_steps() -> None:
    assert found(" 8.", None, "3 + 5 = 8.") == set()
    assert found(" 8.", None, "3 + 5 = 9 and 2 x 3 = 6.") == {categories.SLIP, categories.RIGHT_BUT_SLIP}
    assert found(" 8.", None, "Then there are five more and") == {categories.CUT_OFF}  # no reason recorded
    assert found(" 8.", "length", "It is 8.", "stop") == set()  # only the answer's wording was cut
    assert found(" 8.", "stop", "It is 8.", "length") == {categories.CUT_OFF}


@pytest.mark.parametrize(
    ("text", "repeats"),
    [
        ("He has five apples. " * 4, True),
        ("First this. " + "one two three four five six " * 3 + "one two", False),
        ("First this. " + "one two three four five six " * 4 + "one tw", True),
        ("9.33333333333333333333333333", True),
        ("ha-ha-ha-ha-ha-ha-ha-ha-ha-ha-ha-ha-ha-ha", True),
        ("1 + 1 = 2, 2 + 2 = 4, 3 + 3 = 6, 4 + 4 = 8, 5 + 5 = 10", False),
        ("He has no no no no apples.", False),
        ("no " * 16, True),
        ("the same line again and again\n" * 6 + "and then a proper end that is different", False),
        ("", False),
        ("-" * 100, True),
    ],
)
def test_repetition(text: str, repeats: bool) -> None:
    assert repeats_itself(text) == repeats


def test_slips_are_kept_and_categories_explained() -> None:
    row = Completion(0, 0, "q", "8", None, None, None, "p", "3 + 5 = 9, 2 + 2 = 5 --> 8", "stop")
    verdict = score(get_task("multiarith"), row.completion, "8", "-->", "paper", "stop")
    assert categorize(row, verdict).slips == ("3 + 5 = 9", "2 + 2 = 5")
    assert all(CATEGORIES.values())
