"""What a reader of 2026 would take for the answer."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path

import pytest

from ftcot_jax.tasks.load import load_task
from ftcot_jax.tasks.numbers_in_text import plain, value
from ftcot_jax.tasks.registry import TASKS
from ftcot_jax.tasks.scoring import score
from ftcot_jax.tasks.settings import TaskSettings

P = "-->"


@pytest.mark.parametrize(
    ("key", "text", "gold", "prefix"),
    [
        # numbers: units, currency, separators, fractions, percentages, words
        ("gsm8k", "18.0", "18", None),
        ("gsm8k", " $70,000.", "70000", None),
        ("gsm8k", "70000", "70,000", None),
        ("gsm8k", "It costs 3 * 6 = 18 dollars.", "18", None),
        ("gsm8k", "18 dollars, since 3 boxes cost 6 each", "18", None),
        ("multiarith", "5-3=2", "2", None),
        ("multiarith", "10 + 5 = 15", "15", None),
        ("multiarith", "10 + 5 = 15", "15", P),
        ("multiarith", "10 + 5 = 15 --> 15 apples END 99", "15", P),
        ("multiarith", " eleven.", "11", None),
        ("svamp", "one hundred and fifty-one dollars", "151.0", None),
        ("svamp", "5/6", "0.8333333333333334", None),
        ("svamp", "1 1/2 cups", "1.5", None),
        ("svamp", "\\frac{1}{2}", "0.5", None),
        ("svamp", "50%", "0.5", None),
        ("svamp", "50 percent", "50", None),
        ("svamp", "-$5", "-5", None),
        ("svamp", "\u22125", "-5.0", None),
        ("svamp", "- 5 apples", "5.0", None),
        ("gsm8k", "1.2e3", "1200", None),
        # announcements
        ("gsm8k", "He had 24. He used 7. The answer is 17. That is 3 more.", "17", None),
        ("gsm8k", "24 - 7 = 17\n#### 17", "17", None),
        ("gsm8k", "So we get \\boxed{1{,}7}... no, \\boxed{17}.", "17", None),
        ("gsm8k", "\\boxed{\\text{17 dollars}} since 24 - 7", "17", P),
        ("gsm8k", "**Answer:** 17", "17", None),
        ("gsm8k", "The answer (arabic numerals) is: 17", "17", P),
        ("gsm8k", "The answer is 24 - 7 = 17 eggs.", "17", None),
        ("gsm8k", "She has 24 eggs. She uses 7. She sells the 17 that are left.", "17", None),
        # thoughts and stop words
        ("gsm8k", "<think>24? The answer is 24.</think>17", "17", None),
        ("gsm8k", "24, or the answer is 99</think>\n\n17", "17", None),
        ("gsm8k", "17\nQ: How many? 99", "17", None),
        ("gsm8k", "so --> 17<|im_end|> --> 4", "17", P),
        ("gsm8k", "At the END of May he had 24 --> 17", "17", P),
        # choices
        ("aqua", "The answer is C END", "C", None),
        ("aqua", "Claire, (A)", "A", None),
        ("aqua", "Because (B)", "B", P),
        ("aqua", "The answer is (c).", "C", None),
        ("aqua", "**D**", "D", None),
        ("aqua", "d", "D", None),
        ("aqua", "E) None of these", "E", None),
        ("aqua", "A car needs B litres. So the answer is B.", "B", None),
        ("aqua", "Option A is right", "A", None),
        ("aqua", "\\boxed{C}", "C", P),
        ("commonsense_qa", "most likely C, airport, but it could also be A, car.", "C", None),
        # yes and no
        ("coin_flip", "Yes!", "yes", None),
        ("coin_flip", "**yes**", "yes", None),
        ("coin_flip", "(no)", "no", None),
        ("coin_flip", "No; it was flipped once.", "no", None),
        ("strategy_qa", "It would sink, so the answer is no.", "No", P),
        ("strategy_qa", "_Yes_", "Yes", None),
        # letters
        ("last_letter_concatenation", "yyed END", "yyed", None),
        ("last_letter_concatenation", ' "yyed".', "yyed", None),
        ("last_letter_concatenation", "YYED", "yyed", None),
        ("last_letter_concatenation", "y-y-e-d", "yyed", None),
        ("last_letter_concatenation", 'Joined they are "yyed".', "yyed", P),
        ("last_letter_concatenation", "The answer is yyed.", "yyed", None),
        ("weekday_tracking", "Thu 1 later Fri . --> fri", "Fri", P),
    ],
)
def test_right(key: str, text: str, gold: str, prefix: str | None) -> None:
    verdict = score(TASKS[key], text, gold, prefix, "robust")
    assert verdict.correct, verdict


@pytest.mark.parametrize(
    ("key", "text", "gold", "prefix"),
    [
        ("aqua", "Because", "B", None),
        ("aqua", "A dog barks.", "A", P),
        ("commonsense_qa", "CABBAGE", "C", None),
        ("coin_flip", "nothing is known", "no", None),
        ("coin_flip", "yesterday", "yes", None),
        ("gsm8k", "17 --> ", "17", P),  # announced and not given
        ("gsm8k", "<think>the answer is 17", "17", None),  # never got beyond thinking
        ("gsm8k", "x17y", "17", None),
        ("svamp", "5", "5.1", None),
        ("svamp", "0.5", "50", None),
        ("gsm8k", "", "0", None),
        ("last_letter_concatenation", "The letters are y, y, e and d.", "yyed", P),
    ],
)
def test_wrong(key: str, text: str, gold: str, prefix: str | None) -> None:
    verdict = score(TASKS[key], text, gold, prefix, "robust")
    assert not verdict.correct, verdict


def test_text_answers_are_compared_without_case_articles_and_punctuation() -> None:
    task = dataclasses.replace(TASKS["gsm8k"], answer_type="text")
    assert score(task, " The Eiffel  Tower.\n", "eiffel tower", None, "robust").correct
    assert score(task, "It is tall. The answer is the Eiffel Tower", "Eiffel Tower", P, "robust").correct
    assert not score(task, "Eiffel", "Eiffel Tower", None, "robust").correct
    assert not score(task, "The Eiffel Tower", "eiffel tower", None, "paper").correct


def test_contains_answer_looks_everywhere_but_in_thoughts() -> None:
    verdict = score(TASKS["gsm8k"], "15 and 16 --> 16", "15", P, "robust")
    assert (verdict.correct, verdict.contains_answer) == (False, True)
    assert not score(TASKS["gsm8k"], "<think>15</think> 16", "15", None, "robust").contains_answer


@pytest.mark.parametrize(
    ("written", "number"),
    [("three hundred and five", 305.0), ("minus twenty-one", -21.0), ("two million", 2e6), ("$1,234.50", 1234.5)],
)
def test_written_numbers(written: str, number: float) -> None:
    assert value(plain(written)) == (number, False)


def test_robust_finds_at_least_what_the_paper_finds(shared: Path) -> None:
    """On the published completions the paper's rules win only by accident: less than one in two hundred."""
    lost = gained = total = 0
    for key in ("single_eq", "multiarith", "gsm8k", "svamp", "commonsense_qa", "last_letter_concatenation"):
        data = load_task(TaskSettings(key=key, mirror=str(shared / "data/upstream")))
        file = shared / f"data/completions/B_text-davinci-002__C_zs_cot/D_{key}.json"
        for rows in json.loads(file.read_text())["data"].values():
            text, gold = rows[0]["completion"], data.questions[rows[0]["sample_index"]].answer
            paper = score(data.task, text, gold, None).correct
            robust = score(data.task, text, gold, None, "robust").correct
            total, lost, gained = total + 1, lost + (paper > robust), gained + (robust > paper)
    assert total > 5000
    assert lost < total / 200
    assert gained > 3 * lost


@pytest.mark.parametrize(
    ("key", "text", "gold", "prefix"),
    [
        ("gsm8k", "\\boxed{1{,}234}", "1234", None),
        ("gsm8k", "The answer is 1.5 million.", "1500000", P),
        ("gsm8k", "$18k", "18000", None),
        ("gsm8k", "答案是18。", "18", P),
        ("gsm8k", "So it costs €18,00", "18", P),
        ("gsm8k", "1. Compute 2 * 6 = 12\n2. Add 6 to get 18\n\n**18**", "18", None),
        ("svamp", "5 and a half", "5.5", None),
        ("svamp", "half", "0.5", None),
        ("last_letter_concatenation", "**Answer:** yynd", "yynd", None),
        ("last_letter_concatenation", "### Answer\n\nyynd", "yynd", None),
        ("last_letter_concatenation", '{"answer": "yynd"}', "yynd", None),
        ("last_letter_concatenation", "y + y + n + d = yynd", "yynd", None),
        ("last_letter_concatenation", "The concatenated string is yynd.", "yynd", None),
        ("last_letter_concatenation", "\\boxed{\\texttt{yynd}}", "yynd", P),
        ("last_letter_concatenation", "- Amy: y\n- Bo: o\n\n**yo**", "yo", P),
        ("last_letter_concatenation", "yynd is the answer.", "yynd", None),
        ("aqua", "The answer is not A; it is C.", "C", None),
        ("aqua", "C\n\nExplanation: A is too far, B is closed.", "C", P),
        ("aqua", "I'd pick option (C) because A and B are wrong.", "C", P),
        ("aqua", "A is wrong. B is wrong. C is right.", "C", None),
        ("strategy_qa", "The answer is not yes. It is no.", "No", None),
        ("strategy_qa", "Yes, because no one flipped it.", "Yes", P),
        ("strategy_qa", "The answer is true.", "Yes", None),
    ],
)
def test_what_a_hostile_reader_wrote_before_reading_the_code(
    key: str, text: str, gold: str, prefix: str | None
) -> None:
    verdict = score(TASKS[key], text, gold, prefix, "robust")
    assert verdict.correct, verdict


@pytest.mark.parametrize(("text", "gold"), [("18 thousand", "18"), ("18²", "18"), ("1e999", "18"), ("-", "0")])
def test_numbers_that_only_look_right(text: str, gold: str) -> None:
    assert not score(TASKS["gsm8k"], text, gold, None, "robust").correct


@pytest.mark.parametrize("text", ["-", ".", "**", "---", "\\boxed{", "</think>"])
def test_marks_alone_are_no_answer(text: str) -> None:
    task = dataclasses.replace(TASKS["gsm8k"], answer_type="text")
    assert not score(task, text, "5", None, "robust").correct


def test_signs_matter_in_text() -> None:
    task = dataclasses.replace(TASKS["gsm8k"], answer_type="text")
    for text, gold in (("-5", "5"), ("3.14", "3 14"), ("C++", "C#")):
        assert not score(task, text, gold, None, "robust").correct


@pytest.mark.parametrize("piece", ["<think>", "<think>a</think>", "END ", "\\boxed{", "answer is ", "1/", "(A", "one "])
def test_long_repetitions_are_read_in_linear_time(piece: str) -> None:
    began = time.process_time()
    for key in ("gsm8k", "aqua", "strategy_qa", "last_letter_concatenation"):
        for prefix in (None, P):
            score(TASKS[key], piece * 5000, "18", prefix, "robust")
    assert time.process_time() - began < 5
