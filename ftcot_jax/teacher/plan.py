"""How a teacher is asked: one prompt, or a second that follows the first one's text."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from ftcot_jax.tasks.question import Question
from ftcot_jax.tasks.templates import Message, Template, get_template


class Conversation(str):
    """A prompt of several turns: as text it names who says what, for identity and files; `messages` is what is sent."""

    messages: Sequence[Message]

    def __new__(cls, messages: Sequence[Message]) -> Conversation:
        made = super().__new__(cls, "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in messages))
        made.messages = messages
        return made


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
    """The plan that asks as a template does; its exemplars, if it shows some, are filled in already."""

    def chat_on(prompt: str, text: str) -> str:
        asked = template.answer_prompt(prompt, text)
        turns = (("user", prompt), ("assistant", text), ("user", asked))
        return Conversation([{"role": role, "content": content} for role, content in turns])

    second = None
    if template.answer_form is not None:
        second = chat_on if template.chat else template.answer_prompt
    return PromptPlan(template.name, lambda question: template.prompt(question.question.strip()), second, template.stop)


ZERO_SHOT_COT = plan_of(get_template("zs_cot", "api"))
