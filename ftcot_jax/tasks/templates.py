"""Prompts and labels, as the reference forms them (src/data/format.py of its repository)."""

from __future__ import annotations

import dataclasses

from ftcot_jax.errors import UsageError, nearest


@dataclasses.dataclass(frozen=True)
class Template:
    """How a student is asked and what it learns to answer.

    Attributes:
      name: the reference's.
      prompt_form: with ``{question}``.
      label_form: with ``{answer}`` and, if the student reasons, ``{rationale}``; the end token follows it.
      answer_prefix: what announces the answer in a student's text; None where the text is all answer.
    """

    name: str
    prompt_form: str
    label_form: str
    answer_prefix: str | None

    @property
    def has_rationale(self) -> bool:
        return "{rationale}" in self.label_form

    def prompt(self, question: str) -> str:
        return self.prompt_form.format(question=question.strip())

    def label(self, answer: str, rationale: str = "") -> str:
        return self.label_form.format(answer=answer.strip(), rationale=rationale.strip())


_STUDENT_TEMPLATES = (
    Template("ft_token", "{question} ###", " {answer}", None),
    Template("ft_cot_token", "{question} ###", " {rationale} --> {answer}", "-->"),
)
TEMPLATES = {template.name: template for template in _STUDENT_TEMPLATES}


def get_template(name: str) -> Template:
    """Returns the template called `name`.

    Raises:
      UsageError: there is none; the nearest name is shown.
    """
    try:
        return TEMPLATES[name]
    except KeyError:
        known = ", ".join(TEMPLATES)
        raise UsageError(f"template: none is called '{name}'{nearest(name, TEMPLATES)}; there are {known}") from None


def zero_shot_cot_prompt(question: str) -> str:
    """Step 1 of Zero-shot-CoT (Kojima et al. 2022): asks the teacher for a rationale."""
    return f"Q: {question.strip()}\nA: Let's think step by step."


def answer_prompt(step_one_prompt: str, rationale: str) -> str:
    """Step 2: asks the teacher for the answer its rationale leads to."""
    return f"{step_one_prompt}{rationale}\nTherefore, the answer is"
