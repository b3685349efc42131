"""Prompts and labels letter for letter."""

from __future__ import annotations

import pytest

from ftcot_jax.errors import UsageError
from ftcot_jax.tasks.templates import answer_prompt, get_template, zero_shot_cot_prompt


def test_student_templates() -> None:
    cot = get_template("ft_cot_token")
    assert cot.prompt(" How many? ") == "How many? ###"
    assert cot.label(" 7", "\n\n3 + 4 = 7 {sic} ") == " 3 + 4 = 7 {sic} --> 7"
    assert cot.has_rationale
    answers = get_template("ft_token")
    assert answers.prompt("q") == "q ###"
    assert answers.label("7") == " 7"
    assert not answers.has_rationale
    with pytest.raises(UsageError, match=r"'ft_cot_tokn' \(did you mean 'ft_cot_token'\?\)"):
        get_template("ft_cot_tokn")


def test_teacher_prompts() -> None:
    first = zero_shot_cot_prompt("How many?")
    assert first == "Q: How many?\nA: Let's think step by step."
    assert answer_prompt(first, " 3 + 4.") == first + " 3 + 4.\nTherefore, the answer is"
