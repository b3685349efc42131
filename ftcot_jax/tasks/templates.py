"""Prompts and labels, as the reference forms them (src/data/format.py of its repository) for each kind of model.

Kinds: a local "decoder" or "encoder_decoder"; "api", the paper's OpenAI models as they were really used; "chat",
which the paper has not: the same words as messages, rendered by the model's own chat template.
"""

from __future__ import annotations

import dataclasses
import re
import string
from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ftcot_jax.errors import UsageError, nearest

Kind = Literal["decoder", "encoder_decoder", "api", "chat"]
Message = dict[str, str]
STOP = " END"
_STEP_BY_STEP = "Let's think step by step."


@dataclasses.dataclass(frozen=True)
class Template:
    """How a model is asked, and what a student learns to answer.

    Attributes:
      name: the reference's.
      prompt_form: with ``{question}``, and ``{exemplars}`` where it shows some; of the user's message if `chat`.
      label_form: with ``{answer}`` and, if the student reasons, ``{rationale}``; the end token follows it. None
        where the template is for asking only.
      answer_prefix: what announces the answer in a text; None where the text is all answer.
      answer_form: of a second question that asks for the answer, with ``{prompt}`` and ``{rationale}``; None
        where one question is enough. If `chat`, what the user says after the rationale.
      stop: texts that end an answer; the model's own end always does.
      chat: whether the prompt is a message.
      strip: whether the answer and question are stripped; rationales of labels always are.
    """

    name: str
    prompt_form: str
    label_form: str | None = None
    answer_prefix: str | None = None
    answer_form: str | None = None
    stop: tuple[str, ...] = ()
    chat: bool = False
    strip: bool = True

    @property
    def has_rationale(self) -> bool:
        """Whether its label teaches a rationale."""
        return self.label_form is not None and "{rationale}" in self.label_form

    @property
    def trains(self) -> bool:
        """Whether a student can learn by it; else one is asked as it is."""
        return self.label_form is not None

    @property
    def needs_exemplars(self) -> bool:
        return "{exemplars}" in self.prompt_form

    def prompt(self, question: str) -> str:
        """What the model is asked; of a chat, what the user says."""
        return self.prompt_form.format(question=self._clean(question))

    def label(self, answer: str, rationale: str = "") -> str:
        """What a student learns to write after the prompt.

        Raises:
          UsageError: the template is for asking only.
        """
        if self.label_form is None:
            raise UsageError(f"template: '{self.name}' asks and does not train; ft_cot_token and others do")
        return self.label_form.format(answer=self._clean(answer), rationale=rationale.strip())

    def answer_prompt(self, prompt: str, rationale: str) -> str:
        """The second question, which repeats the first and the rationale; of a chat, the user's second message."""
        assert self.answer_form is not None
        return self.answer_form.format(prompt=prompt, rationale=rationale.strip() if self.strip else rationale)

    def messages(self, question: str) -> list[Message]:
        """The prompt as a chat."""
        return [{"role": "user", "content": self.prompt(question)}]

    def with_exemplars(self, exemplars: str) -> Template:
        """The template with its exemplars filled in."""
        shown = exemplars.replace("{", "{{").replace("}", "}}")
        return dataclasses.replace(self, prompt_form=self.prompt_form.replace("{exemplars}", shown))

    def _clean(self, text: str) -> str:
        return text.strip() if self.strip else text


class OwnTemplate(BaseModel):
    """Section ``template:`` of a recipe, where it is not one of the names: the user's own prompt and label."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field("own", description="Its name in reports.")
    prompt: str = Field(description="What the student is asked; holds {question}.")
    label: str = Field(description="What it learns to answer; holds {answer} and perhaps {rationale}.")
    answer_prefix: str | None = Field(None, description="What announces the answer; default: the text is all answer.")
    chat: bool = Field(False, description="The prompt is a user's message, rendered by the student's chat template.")

    @model_validator(mode="after")
    def _fields_are_known(self) -> OwnTemplate:
        _check_fields("prompt", self.prompt, {"question"}, {"question"})
        _check_fields("label", self.label, {"answer"}, {"answer", "rationale"})
        if self.answer_prefix is not None:
            before = self.label.format(rationale="", answer="\0").partition("\0")[0]
            if not self.answer_prefix.strip() or self.answer_prefix not in before:
                raise ValueError(f"answer_prefix {self.answer_prefix!r} is not in the label before its answer")
        return self

    @property
    def template(self) -> Template:
        return Template(self.name, self.prompt, self.label, self.answer_prefix, chat=self.chat)


def _check_fields(which: str, form: str, needed: set[str], known: set[str]) -> None:
    try:
        parsed = [part for part in string.Formatter().parse(form) if part[1] is not None]
    except ValueError as error:
        raise ValueError(f"{which} is no template ({error}); write {{{{ for a brace") from error
    if any(specification or conversion for _, _, specification, conversion in parsed):
        raise ValueError(f"{which} formats a field with : or !; a field is its name in braces, nothing else")
    found = {str(field) for _, field, _, _ in parsed}
    unknown = sorted(found - known)
    if unknown:
        fields = ", ".join(f"{{{name}}}" for name in sorted(known))
        raise ValueError(
            f"{which} has an unknown field {{{unknown[0]}}}; it can hold {fields} (write {{{{ for a brace)"
        )
    if not needed <= found:
        raise ValueError(f"{which} lacks {{{next(iter(needed - found))}}}")


_FEW_SHOT = "{exemplars}\nQ: {question}\nA:"

_FORMS: Mapping[Kind, tuple[Template, ...]] = {
    "decoder": (
        Template("zs", "Q: {question}\n\nA:"),
        Template(
            "zs_cot",
            f"Q: {{question}}\nA: {_STEP_BY_STEP}",
            answer_form="{prompt}{rationale}\nTherefore, the answer is",
        ),
        Template("fs_cot", _FEW_SHOT, None, "The answer is", stop=("Q:",)),
        Template("ft_natural", "Q: {question}\n\nA:", " {answer}"),
        Template("ft_token", "{question} ###", " {answer}"),
        Template("ft_cot_token", "{question} ###", " {rationale} --> {answer}", "-->"),
        # The label has no comma and the prefix has one, as in the reference: the prefix never matches.
        Template(
            "ft_cot_natural",
            f"Q: {{question}}\n\nA: {_STEP_BY_STEP}\n\n",
            " {rationale}\n\nTherefore the answer is {answer}",
            "Therefore, the answer is",
        ),
    ),
    "encoder_decoder": (
        Template("zs", "question: {question}"),
        # The reference has none for these; as its few-shot prompt, it is the decoder's.
        Template(
            "zs_cot",
            f"Q: {{question}}\nA: {_STEP_BY_STEP}",
            answer_form="{prompt}{rationale}\nTherefore, the answer is",
        ),
        Template("fs_cot", _FEW_SHOT, None, "The answer is", stop=("Q:",)),
        Template("ft_natural", "Q: {question}", "{answer}"),
        Template("ft_token", "{question}", "{answer}"),
        Template("ft_cot_token", "{question}", "{rationale} --> {answer}", "-->"),
    ),
    "api": (
        Template("zs", "Q: {question}\nA: The answer is", strip=False),
        Template(
            "zs_cot",
            f"Q: {{question}}\nA: {_STEP_BY_STEP}",
            answer_form="{prompt}{rationale}\nTherefore, the answer is",
            strip=False,
        ),
        Template("fs_cot", _FEW_SHOT, None, "The answer is", stop=("Q:",), strip=False),
        Template("ft_token", "{question}\n\n ### \n\n", " {answer}" + STOP, None, stop=("END",), strip=False),
        Template(
            "ft_cot_token",
            "{question}\n\n###\n\n",
            " {rationale}\n\n-->\n\n{answer}" + STOP,
            "-->",
            stop=("END",),
            strip=False,
        ),
        Template(
            "ft_cot_natural",
            f"Q: {{question}}\n\nA: {_STEP_BY_STEP}\n\n",
            " {rationale}\n\nTherefore, the answer is\n\n{answer}" + STOP,
            "Therefore, the answer is",
            stop=("END",),
            strip=False,
        ),
    ),
    "chat": (
        Template("zs", "{question}\n\nReply with the answer only.", chat=True),
        Template(
            "zs_cot",
            f"{{question}}\n\n{_STEP_BY_STEP}",
            answer_form="Therefore, what is the answer? Reply with the answer only.",
            chat=True,
        ),
        Template("fs_cot", _FEW_SHOT, None, "The answer is", stop=("Q:",), chat=True),
        Template("ft_natural", "{question}", "{answer}", chat=True),
        Template("ft_token", "{question}", "{answer}", chat=True),
        Template("ft_cot_token", "{question}", "{rationale} --> {answer}", "-->", chat=True),
        Template(
            "ft_cot_natural",
            "{question}",
            "{rationale}\n\nTherefore, the answer is {answer}",
            "Therefore, the answer is",
            chat=True,
        ),
    ),
}
TEMPLATE_NAMES = tuple(template.name for template in _FORMS["decoder"])


def get_template(chosen: str | OwnTemplate, kind: Kind = "decoder") -> Template:
    """Returns the template of a name for a kind of model, or the user's own.

    Raises:
      UsageError: there is none of that name, or none for that kind; the nearest name is shown.
    """
    if isinstance(chosen, OwnTemplate):
        return chosen.template
    forms = {template.name: template for template in _FORMS[kind]}
    if chosen in forms:
        return forms[chosen]
    if chosen in TEMPLATE_NAMES:
        raise UsageError(f"template: '{chosen}' has no form for models of kind '{kind}'; {', '.join(forms)} have one")
    known = ", ".join(TEMPLATE_NAMES)
    raise UsageError(f"template: none is called '{chosen}'{nearest(chosen, TEMPLATE_NAMES)}; there are {known}")


def reference_name(name: str) -> str | None:
    """What a completion file calls a template: the reference's name, or None for the user's own."""
    return name if name in TEMPLATE_NAMES else None


def prompt_words(name: str) -> list[str]:
    """The words of a template's own in its prompts, for a vocabulary that is made of words."""
    found: dict[str, None] = {}
    for kind in ("decoder", "encoder_decoder"):
        for template in _FORMS[kind]:
            if template.name == name:
                form = f"{template.prompt_form} {template.answer_form or ''}"
                found |= dict.fromkeys(re.sub(r"\{\w+\}", " ", form).split())
    return list(found)


def zero_shot_cot_prompt(question: str) -> str:
    """Step 1 of Zero-shot-CoT (Kojima et al. 2022): asks the teacher for a rationale."""
    return get_template("zs_cot", "api").prompt(question.strip())


def answer_prompt(step_one_prompt: str, rationale: str) -> str:
    """Step 2: asks the teacher for the answer its rationale leads to."""
    return get_template("zs_cot", "api").answer_prompt(step_one_prompt, rationale)
