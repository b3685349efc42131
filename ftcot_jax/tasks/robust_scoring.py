"""Scoring as a reader would: thoughts and stop words cut, the announced answer found, equal answers equal.

What announces an answer, in this order: the template's prefix, a box (``\\boxed{}``), words ("the answer is",
"####"). Where nothing does, a text whose template has a prefix is reasoning, so its last candidate counts. A text
that should be all answer counts for its only sentence or for what it starts with, or else its last candidate.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from ftcot_jax.tasks.numbers_in_text import plain, value, written_numbers
from ftcot_jax.tasks.paper_scoring import Found
from ftcot_jax.tasks.task import Task

_THOUGHT = re.compile(r"<think(?:ing)?>.*?</think(?:ing)?>", re.S)
_STOP = re.compile(r"(?<![A-Za-z])END(?![A-Za-z])|<\|[a-z_]{2,20}\|>|</s>|<eos>|\nQ:")
_ANNOUNCEMENT = re.compile(
    r"(?:\banswer|\bans\b)\s*(?:\([^()\n]{0,40}\)\s*|choice\s+|to the question\s+)?"
    r"(?:(?:is|are|was|would be|will be|should be|must be)\b|[:=])\s*[:=]?|####|\bfinal answer\b\s*[:=]?",
    re.I,
)
_SENTENCE_END = re.compile(r"\n|(?<=[^\s])[.!?;](?=\s|$)")
_YES_NO = re.compile(r"(?<![A-Za-z])(yes|no)(?![A-Za-z])", re.I)
_QUOTED = re.compile(r"[\"“'‘`]([^\W\d_]+)[\"”'’`.]")
_WORD = re.compile(r"[^\W\d_]+")
_SPELLED = re.compile(r"(?<![A-Za-z])[A-Za-z](?:[\s,.\-]+[A-Za-z])+(?![A-Za-z])")
_OPERATOR = re.compile(r"\s*[-+*/×÷x=]")
_MARKS = " \n\t*_\"'([$€£#:.-"
_NOISE = re.compile(r"[^\w\s]|\b(?:a|an|the)\b")
_RELATIVE, _ABSOLUTE = 1e-6, 1e-6


def find(task: Task, text: str, answer_prefix: str | None) -> Found:
    """Finds the answer in a text of any kind."""
    text = plain(_spoken(text, answer_prefix))
    everywhere = candidates(task, text)
    if not everywhere:
        return Found(None, everywhere)
    if answer_prefix is None:
        return Found(_bare_answer(task, text, everywhere), everywhere)
    region = _announced(text, answer_prefix)
    prediction = None if region is None else _stated(task, region)
    if prediction is None and answer_prefix not in text:
        prediction = everywhere[-1]
    return Found(prediction, everywhere)


def equal(task: Task, candidate: str, gold: str) -> bool:
    """Whether two answers are the same, however they are written."""
    match task.answer_type:
        case "integer" | "float":
            return _same_number(candidate, gold)
        case "text":
            return _bare(candidate) == _bare(gold)
        case _:
            return candidate.casefold() == gold.strip().casefold()


def candidates(task: Task, text: str) -> list[str]:
    """Everything in a plain text that could be an answer of the task's kind, in order."""
    match task.answer_type:
        case "integer" | "float":
            return written_numbers(text)
        case "choice":
            return _letters_chosen(task, text)
        case "yes_no":
            return [found.lower() for found in _YES_NO.findall(text)]
        case "letters":
            return _letter_strings(text)
        case "word":
            return _words_chosen(task, text)
        case "text":
            return [text.strip()] if text.strip() else []


def _spoken(text: str, prefix: str | None) -> str:
    """The text without thoughts and without what follows a stop word."""
    if "<think" in text or "</think" in text:
        text = _THOUGHT.sub(" ", text)
        before, closed, after = text.rpartition("</think>")  # the prompt may have opened the block
        text = after if closed else re.split(r"<think(?:ing)?>", before + after, maxsplit=1)[0]
    start = 0
    if prefix is not None and prefix in text:
        start = text.index(prefix) + len(prefix)  # a stop word before the answer is an ordinary word
    stop = _STOP.search(text, start)
    while stop is not None and not text[start : stop.start()].strip():
        stop = _STOP.search(text, stop.end())  # what stands before it must be something
    return text if stop is None else text[: stop.start()]


def _announced(text: str, prefix: str | None) -> str | None:
    """What follows the announcement of the answer, if there is one."""
    if prefix is not None and prefix in text:
        after = text.split(prefix, 1)[1]
        boxed = _boxed(after)
        return after if boxed is None else boxed
    boxed = _boxed(text)
    if boxed is not None:
        return boxed
    end = None
    for found in _ANNOUNCEMENT.finditer(text):
        end = found.end() if text[found.end() :].strip() else end
    return None if end is None else text[end:]


def _boxed(text: str) -> str | None:
    """What the last box holds, its braces balanced; to the end of the text where the box is cut off."""
    place = text.rfind("\\boxed")
    if place < 0:
        return None
    start = text.find("{", place)
    if start < 0:
        return None
    depth = 0
    for end in range(start, len(text)):
        depth += (text[end] == "{") - (text[end] == "}")
        if depth == 0:
            return text[start + 1 : end]
    return text[start + 1 :]


def _stated(task: Task, region: str) -> str | None:
    """The answer an announced region states: the first candidate, past an equation if it is one."""
    match task.answer_type:
        case "integer" | "float":
            sentence = next((part for part in _SENTENCE_END.split(region) if part and written_numbers(part)), "")
            result = written_numbers(sentence.rsplit("=", 1)[1]) if "=" in sentence else []
            found = result or written_numbers(sentence)
        case "text":
            sentence = next((line for line in region.splitlines() if line.strip()), "")
            found = [sentence.strip().rstrip(".")] if sentence else []
        case _:
            found = candidates(task, region)
    return found[0] if found else None


def _bare_answer(task: Task, text: str, everywhere: Sequence[str]) -> str:
    """The answer of a text that should be all answer, and often says more."""
    opening = _opening(task, text, everywhere[0])
    sentences = [sentence for sentence in _SENTENCE_END.split(text) if sentence.strip(_MARKS)]
    if opening is not None and len(sentences[0].split()) <= len(opening.split()) + 1:
        return opening
    region = _announced(text, None)
    announced = None if region is None else _stated(task, region)
    if announced is None and len(sentences) == 1:
        announced = _stated(task, text)
    return announced or opening or everywhere[-1]


def _opening(task: Task, text: str, first: str) -> str | None:
    """The first candidate if the text starts with it, marks and currency aside, and no calculation follows it."""
    bare, start = text.lstrip(_MARKS), first.lstrip(_MARKS)
    if not bare.casefold().startswith(start.casefold()):
        return None
    rest = bare[len(start) :]
    if task.answer_type in ("integer", "float") and _OPERATOR.match(rest):
        return None
    return first


def _letters_chosen(task: Task, text: str) -> list[str]:
    """Choices named in a text: capitals that stand alone, or any letter in brackets; an article is none."""
    only = text.strip(" \n\t.,:;!*_\"'()[]").upper()
    if only in task.choices:
        return [only]
    return [(bracketed or alone).upper() for bracketed, alone in _choice_pattern(task.choices).findall(text)]


@functools.cache
def _choice_pattern(choices: tuple[str, ...]) -> re.Pattern[str]:
    options = "".join(choices)
    return re.compile(
        rf"\(\s*([{options}{options.lower()}])\s*\)|(?<![A-Za-z0-9'’])([{options}])(?![A-Za-z0-9'’])"
        r"(?!(?<=A)\s+(?!(?:is|was|are|because|since|as|and|or|which|seems|must|would)\b)[a-z])"
    )


def _words_chosen(task: Task, text: str) -> list[str]:
    known = {choice.casefold(): choice for choice in task.choices}
    return [known[word.casefold()] for word in re.findall(r"[^\W_]+", text) if word.casefold() in known]


def _letter_strings(text: str) -> list[str]:
    """Strings of letters an answer of letters could be: spelled out, quoted, or else the words."""
    spelled = _SPELLED.search(text)
    if spelled is not None and len(_WORD.findall(text[: spelled.start()])) == 0:
        return [re.sub(r"[^A-Za-z]", "", spelled.group())]
    return _QUOTED.findall(text) or _WORD.findall(text)


def _same_number(candidate: str, gold: str) -> bool:
    ours, theirs = value(plain(candidate)), value(plain(gold))
    if ours is None or theirs is None:
        return False
    (number, percent), (right, gold_percent) = ours, theirs
    close = max(_ABSOLUTE, _RELATIVE * abs(right))
    return abs(number - right) <= close or (percent and not gold_percent and abs(number / 100 - right) <= close)


def _bare(text: str) -> str:
    return " ".join(_NOISE.sub(" ", text.casefold()).split())
