"""The paper's evaluator, with the edge cases seen by running the authors' own code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftcot_jax.tasks.load import load_task
from ftcot_jax.tasks.registry import TASKS
from ftcot_jax.tasks.scoring import score
from ftcot_jax.tasks.settings import TaskSettings

PREFIX = "-->"


@pytest.mark.parametrize(
    ("key", "text", "gold", "prefix", "correct", "prediction"),
    [
        ("gsm8k", "$70,000", "70000", None, True, "70000"),
        ("gsm8k", "70000", "70,000", None, True, "70000"),
        ("gsm8k", "18.0", "18", None, False, "18.0"),
        ("multiarith", "18.", "18", None, True, "18"),
        ("multiarith", "5-3=2", "2", None, False, "5"),
        ("svamp", "5/6", "5.0", None, True, "5"),
        ("single_eq", "0.8333333", "0.8333333333333334", None, True, "0.8333333"),
        ("multiarith", "10 + 5 = 15", "15", None, False, "10"),
        ("multiarith", "10 + 5 = 15 --> 15", "15", PREFIX, True, "15"),
        ("multiarith", "10 + 5 = 15", "15", PREFIX, True, "15"),  # prefix missing: the last candidate
        ("multiarith", "10 --> ", "10", PREFIX, False, None),  # prefix there, nothing after it
        ("multiarith", "3 --> 4 --> 5", "5", PREFIX, False, "4"),  # first prefix, first candidate after it
        ("coin_flip", "Yes.", "yes", None, True, "yes"),
        ("coin_flip", "Yes!", "yes", None, False, None),
        ("coin_flip", "**yes**", "yes", None, False, None),
        ("coin_flip", "(no)", "no", None, False, None),
        ("last_letter_concatenation", ' "yyed".', "yyed", None, True, "yyed"),
        ("last_letter_concatenation", "yyed END", "yyed", None, False, "yyedEND"),
        ("last_letter_concatenation", "YYED", "yyed", None, False, "YYED"),
        ("weekday_tracking", "Thu 1 later Fri . --> Fri", "Fri", PREFIX, True, "Fri"),
        ("gsm8k", "", "1", None, False, None),
    ],
)
def test_edge_cases(key: str, text: str, gold: str, prefix: str | None, correct: bool, prediction: str | None) -> None:
    verdict = score(TASKS[key], text, gold, prefix)
    assert (verdict.correct, verdict.prediction) == (correct, prediction)


def test_format_and_containment() -> None:
    verdict = score(TASKS["multiarith"], "15 or 16 --> 16", "15", PREFIX)
    assert (verdict.correct, verdict.contains_answer, verdict.correct_format) == (False, True, True)
    verdict = score(TASKS["multiarith"], "15 or 16", "15", PREFIX)
    assert (verdict.correct, verdict.contains_answer, verdict.correct_format) == (False, True, False)


@given(key=st.sampled_from(sorted(TASKS)), text=st.text(), prefix=st.sampled_from([None, PREFIX]))
def test_no_text_raises_and_correct_implies_contained(key: str, text: str, prefix: str | None) -> None:
    verdict = score(TASKS[key], text, "7", prefix)
    # Last letters alone take the whole text as one candidate, so there the prefix itself can spoil containment.
    assert not verdict.correct or verdict.contains_answer or TASKS[key].answer_type == "letters"


# The figures for text-davinci-002 on the test splits, per cent.
PUBLISHED = {
    "single_eq": 80.26,
    "addsub": 71.43,
    "multiarith": 77.78,
    "svamp": 63.00,
    "coin_flip": 91.33,
    "last_letter_concatenation": 55.33,
    "gsm8k": 41.02,
}


@pytest.mark.parametrize("key", sorted(PUBLISHED))
def test_published_completions_score_as_published(key: str, shared: Path) -> None:
    data = load_task(TaskSettings(key=key, mirror=str(shared / "data/upstream")))
    file = shared / f"data/completions/B_text-davinci-002__C_zs_cot/D_{key}.json"
    rows = json.loads(file.read_text())["data"]
    right = [
        score(data.task, rows[str(question.sample_index)][0]["completion"], question.answer, None).correct
        for question in data.of(data.split.test)
    ]
    assert round(100 * sum(right) / len(right), 2) == PUBLISHED[key]
