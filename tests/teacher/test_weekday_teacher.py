"""The programmatic teacher: varied, closed in vocabulary, right as often as its slips allow, served for real."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftcot_jax.tasks.templates import answer_prompt, zero_shot_cot_prompt
from ftcot_jax.tasks.weekday import parse, questions, solve, vocabulary
from ftcot_jax.teacher.sampler import sample
from ftcot_jax.teacher.settings import TeacherSettings
from ftcot_jax.teacher.weekday_teacher import WeekdayTeacher

PROMPT = zero_shot_cot_prompt("Ida starts Thu . 1 later . 3 before . 2 later ?")


def test_the_four_ways_to_say_it() -> None:
    said = {WeekdayTeacher(0, 0.0, 2, 2).complete(PROMPT, 0, choice) for choice in range(40)}
    assert said == {
        " Thu 1 later Fri . Fri 3 before Tue . Tue 2 later Thu .",
        " Thu 2 later Sat . Sat 3 before Wed . Wed 1 later Thu .",
        " 1 later than Thu is Fri . 3 before than Fri is Tue . 2 later than Tue is Thu .",
        " 2 later than Thu is Sat . 3 before than Sat is Wed . 1 later than Wed is Thu .",
    }
    assert len({WeekdayTeacher(0, 0.0, 1, 1).complete(PROMPT, 0, choice) for choice in range(40)}) == 1


def test_step_two_reads_the_answer_off_the_rationale() -> None:
    teacher = WeekdayTeacher(0, 0.5, 2, 2)
    rationale = " Thu 1 later Fri . Fri 3 before Mon . Mon 2 later Wed ."  # a slip, carried on from
    assert teacher.complete(answer_prompt(PROMPT, rationale), 0, 0) == " Wed"


def test_deterministic_in_seed_request_and_choice() -> None:
    teacher = WeekdayTeacher(3, 0.3, 2, 2)
    texts = [teacher.complete(PROMPT, 5, choice) for choice in range(30)]
    assert texts == [WeekdayTeacher(3, 0.3, 2, 2).complete(PROMPT, 5, choice) for choice in range(30)]
    assert texts != [teacher.complete(PROMPT, 6, choice) for choice in range(30)]
    assert texts != [WeekdayTeacher(4, 0.3, 2, 2).complete(PROMPT, 5, choice) for choice in range(30)]


def test_other_prompts_are_refused() -> None:
    with pytest.raises(ValueError, match="not a weekday question"):
        WeekdayTeacher(0, 0.0, 1, 1).complete("Q: What is love?\nA: Let's think step by step.", 0, 0)


def test_sampled_through_the_real_client(tmp_path: Path) -> None:
    settings = TeacherSettings(loopback="weekday_tracking", diversity=8, seed=7)
    asked = questions(seed=7, train=300, test=1)[:300]
    rows = list(sample(settings, asked, tmp_path / "ledger").completions)
    assert len(rows) == 2400
    words = set(vocabulary())
    assert all(set((row.reasoning_completion or "").split()) <= words for row in rows)
    right = sum(row.completion.strip() == solve(*parse(row.question)) for row in rows) / len(rows)
    assert 0.75 < right < 0.83  # three chances of 0.08 to slip, a few of which cancel: 0.79
    distinct = [len({row.reasoning_completion for row in rows[start : start + 8]}) for start in range(0, 2400, 8)]
    assert sum(distinct) / len(distinct) > 3
    assert list(sample(settings, asked, tmp_path / "ledger").completions) == rows
    assert list(sample(settings, asked, tmp_path / "other").completions) == rows
