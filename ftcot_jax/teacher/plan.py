"""How a teacher is asked: one prompt, or a second that follows the first one's text."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from ftcot_jax.tasks.question import Question
from ftcot_jax.tasks.templates import Template, get_template


@dataclasses.dataclass(frozen=True)
class PromptPlan:
    """The prompts of one way of asking.

    Attributes:
      name: the authors' `prediction_template`.
      first: a question's prompt; sampled D times at the teacher's temperature.
      second: from (first prompt, text that followed it) to the prompt that asks for the answer, at temperature 0; None
        where the first text holds the answer.
      stop: strings that end a text of the first step.
    """

    name: str
    first: Callable[[Question], str]
    second: Callable[[str, str], str] | None
    stop: tuple[str, ...] = ()


def plan_of(template: Template) -> PromptPlan:
    """How a teacher is asked with a template."""
    second = None if template.answer_form is None else template.answer_prompt
    return PromptPlan(template.name, lambda question: template.prompt(question.question.strip()), second, template.stop)


ZERO_SHOT_COT = plan_of(get_template("zs_cot", "api"))
