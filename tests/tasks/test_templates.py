"""Prompts and labels, character for character as the paper's facts have them."""

from __future__ import annotations

from pathlib import Path

import pydantic
import pytest

from ftcot_jax.errors import UsageError
from ftcot_jax.tasks.exemplars import load_exemplars
from ftcot_jax.tasks.templates import (
    TEMPLATE_NAMES,
    Kind,
    OwnTemplate,
    answer_prompt,
    get_template,
    zero_shot_cot_prompt,
)

Q, R, A = " What is {x}? ", " Think.\n\nSo 3. ", " 3 "


@pytest.mark.parametrize(
    ("name", "kind", "prompt", "label"),
    [
        ("zs", "decoder", "Q: What is {x}?\n\nA:", None),
        ("zs", "encoder_decoder", "question: What is {x}?", None),
        ("zs", "api", "Q:  What is {x}? \nA: The answer is", None),
        ("zs_cot", "decoder", "Q: What is {x}?\nA: Let's think step by step.", None),
        ("ft_natural", "decoder", "Q: What is {x}?\n\nA:", " 3"),
        ("ft_natural", "encoder_decoder", "Q: What is {x}?", "3"),
        ("ft_token", "decoder", "What is {x}? ###", " 3"),
        ("ft_token", "encoder_decoder", "What is {x}?", "3"),
        ("ft_token", "api", " What is {x}? \n\n ### \n\n", "  3  END"),
        ("ft_cot_token", "decoder", "What is {x}? ###", " Think.\n\nSo 3. --> 3"),
        ("ft_cot_token", "encoder_decoder", "What is {x}?", "Think.\n\nSo 3. --> 3"),
        ("ft_cot_token", "api", " What is {x}? \n\n###\n\n", " Think.\n\nSo 3.\n\n-->\n\n 3  END"),
        (
            "ft_cot_natural",
            "decoder",
            "Q: What is {x}?\n\nA: Let's think step by step.\n\n",
            " Think.\n\nSo 3.\n\nTherefore the answer is 3",
        ),
        (
            "ft_cot_natural",
            "api",
            "Q:  What is {x}? \n\nA: Let's think step by step.\n\n",
            " Think.\n\nSo 3.\n\nTherefore, the answer is\n\n 3  END",
        ),
    ],
)
def test_prompt_and_label(name: str, kind: Kind, prompt: str, label: str | None) -> None:
    template = get_template(name, kind)
    assert template.prompt(Q) == prompt
    if label is not None:
        assert template.label(A, R) == label
        assert template.has_rationale == ("cot" in name)
    else:
        with pytest.raises(UsageError, match=f"'{name}' asks and does not train"):
            template.label(A, R)


def test_prefixes_are_the_evaluators() -> None:
    prefixes = {name: get_template(name).answer_prefix for name in TEMPLATE_NAMES}
    assert prefixes == {
        "zs": None,
        "zs_cot": None,
        "fs_cot": "The answer is",
        "ft_natural": None,
        "ft_token": None,
        "ft_cot_token": "-->",
        "ft_cot_natural": "Therefore, the answer is",
    }


def test_two_steps_of_the_teacher() -> None:
    step_one = zero_shot_cot_prompt(" How many? ")
    assert step_one == "Q: How many?\nA: Let's think step by step."
    assert answer_prompt(step_one, " Two. ") == step_one + " Two. \nTherefore, the answer is"
    assert (
        get_template("zs_cot", "decoder")
        .answer_prompt(step_one, " Two. ")
        .endswith("step.Two.\nTherefore, the answer is")
    )


def test_few_shot_shows_exemplars_with_braces_in_them() -> None:
    template = get_template("fs_cot")
    assert template.needs_exemplars
    filled = template.with_exemplars("Q: {1}\nA: The answer is 1.")
    assert filled.prompt(Q) == "Q: {1}\nA: The answer is 1.\nQ: What is {x}?\nA:"
    assert (filled.needs_exemplars, filled.stop) == (False, ("Q:",))


def test_exemplars_of_the_reference(shared: Path) -> None:
    mirror = str(shared / "data/upstream")
    assert load_exemplars("svamp", mirror).text == load_exemplars("gsm8k", mirror).text
    assert load_exemplars("svamp", mirror).text.count("Q: ") == 8
    assert load_exemplars("date_understanding", mirror).sample_indices == (106, 360, 237, 53, 143, 65)
    with pytest.raises(UsageError, match="no exemplars for tracking_shuffled_objects; addsub"):
        load_exemplars("tracking_shuffled_objects", mirror)


def test_chat_messages() -> None:
    template = get_template("zs_cot", "chat")
    first = {"role": "user", "content": "Why?\n\nLet's think step by step."}
    assert template.messages(" Why? ") == [first]
    asked = template.answer_prompt(first["content"], " Because. ")
    assert asked == "Therefore, what is the answer? Reply with the answer only."
    assert {name for name in TEMPLATE_NAMES if get_template(name, "chat").chat} == set(TEMPLATE_NAMES)


def test_unknown_names_and_kinds() -> None:
    with pytest.raises(UsageError, match=r"none is called 'ft_cot_tokn' \(did you mean 'ft_cot_token'\?\)"):
        get_template("ft_cot_tokn")
    with pytest.raises(
        UsageError, match="'ft_cot_natural' has no form for models of kind 'encoder_decoder'; zs, zs_cot"
    ):
        get_template("ft_cot_natural", "encoder_decoder")


def test_own_template() -> None:
    own = OwnTemplate(prompt="<q>{question}</q> {{json}}", label="{rationale} => {answer}", answer_prefix="=>")
    template = get_template(own, "encoder_decoder")
    assert template.prompt(" a ") == "<q>a</q> {json}"
    assert template.label("3", " r ") == "r => 3"
    assert template.has_rationale


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": "{question} {hint}", "label": "{answer}"}, r"prompt has an unknown field \{hint\}; it can hold"),
        ({"prompt": "ask", "label": "{answer}"}, r"prompt lacks \{question\}"),
        ({"prompt": "{question}", "label": "{rationale}"}, r"label lacks \{answer\}"),
        ({"prompt": "{question}", "label": "{answer.__class__}"}, r"unknown field \{answer.__class__\}"),
        ({"prompt": "{question", "label": "{answer}"}, "prompt is no template"),
    ],
)
def test_own_template_with_a_bad_field(fields: dict[str, str], message: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=message):
        OwnTemplate(**fields)  # type: ignore[arg-type]
