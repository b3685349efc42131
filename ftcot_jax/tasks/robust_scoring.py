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

_THOUGHT_BEGINS, _THOUGHT_ENDS = re.compile(r"<think(?:ing)?>"), re.compile(r"</think(?:ing)?>")
_STOP = re.compile(r"(?<![A-Za-z])END(?![A-Za-z])|<\|[a-z_]{2,20}\|>|</s>|<eos>|</answer>|\nQ:")
_ANNOUNCEMENT = re.compile(
    r"(?:\banswer|\bans\b)[\"'*]*\s*(?:\([^()\n]{0,40}\)\s*|choice\s+|to the question\s+)?"
    r"(?:(?:is|are|was|would be|will be|should be|must be)\b|[:=])\s*[:=]?|####|\bfinal answer\b\s*[:=]?"
    r"|<answer>|^#+[ ]*(?:final )?answer\b|答案\s*(?:是|为|[:：])",
    re.I | re.M,
)
# "X is the answer": what stands before it on its line.
_ANNOUNCED_BEFORE = re.compile(
    r"([^\n.!?]{1,80}?)\bis (?:the (?:final |right |correct )?(?:answer|choice|option)|right|correct)\b", re.I
)
_SENTENCE_END = re.compile(r"\n|(?<=[^\s])[.!?;](?=\s|$)")
_YES_NO = re.compile(r"(?<![A-Za-z])(yes|no)(?![A-Za-z])", re.I)
_TRUE_FALSE = {"true": "yes", "false": "no"}
_QUOTED = re.compile(r"[\"“'‘`]([^\W\d_]+)[\"”'’`.]")
_WORD = re.compile(r"[^\W\d_]+")
_SPELLED = re.compile(r"(?<![A-Za-z])[A-Za-z](?:[\s,.\-]+[A-Za-z])+(?![A-Za-z])")
_LIST = re.compile(r"^\s*1[.)]\s.*^\s*2[.)]\s", re.S | re.M)
_REFUSED = re.compile(r"\bnot\s+(?:option\s+|choice\s+)?[(*\"']*\Z", re.I)
_WRONG = re.compile(r"[)*\"']*\s+(?:is|are|was)\s+(?:wrong|incorrect|false|not)\b", re.I)
_OPERATOR = re.compile(r"\s*[-+*/×÷x=]")
_MARKS = " \n\t*_\"'([$€£#:.-"
_ARTICLE = re.compile(r"^(?:a|an|the) ")
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
        prediction = _announced_before(task, text) or _reasoned_answer(task, text, everywhere)
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
            said = [match.group().lower() for match in _YES_NO.finditer(text) if not _denied(text, match)]
            return said or [_TRUE_FALSE[word.lower()] for word in re.findall(r"(?i)\b(?:true|false)\b", text)]
        case "letters":
            return _letter_strings(text)
        case "word":
            return _words_chosen(task, text)
        case "text":
            return [text.strip()] if text.strip() else []


def _spoken(text: str, prefix: str | None) -> str:
    """The text without thoughts and without what follows a stop word."""
    if "<think" in text or "</think" in text:
        text = _without_thoughts(text)
    start = 0
    if prefix is not None and prefix in text:
        start = text.index(prefix) + len(prefix)  # a stop word before the answer is an ordinary word
    if not ("END" in text or "<" in text or "\nQ:" in text):
        return text
    for stop in _STOP.finditer(text, start):
        if text[start : stop.start()].strip():  # what stands before it must be something
            return text[: stop.start()]
    return text


def _without_thoughts(text: str) -> str:
    """What stands outside of thoughts; one that the prompt began has its end alone, one cut off its beginning."""
    kept, place = [], 0
    first_end, first_begin = _THOUGHT_ENDS.search(text), _THOUGHT_BEGINS.search(text)
    if first_end and (first_begin is None or first_end.start() < first_begin.start()):
        place = first_end.end()
    while (begin := _THOUGHT_BEGINS.search(text, place)) is not None:
        kept.append(text[place : begin.start()])
        end = _THOUGHT_ENDS.search(text, begin.end())
        if end is None:
            return " ".join(kept)
        place = end.end()
    return " ".join([*kept, text[place:]])


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
    short = opening is not None and bool(sentences) and len(sentences[0].split()) <= len(opening.split()) + 1
    if short and task.answer_type in ("integer", "float"):
        return str(opening)
    region = _announced(text, None)
    announced = (None if region is None else _stated(task, region)) or _announced_before(task, text)
    if announced is None and (alone := _last_line(task, text)) is not None:
        announced = alone
    if announced is None and len(sentences) == 1 and task.answer_type != "letters":
        announced = _stated(task, text)
    return announced or opening or everywhere[-1]


def _reasoned_answer(task: Task, text: str, everywhere: Sequence[str]) -> str:
    """The answer of a reasoning that announces none."""
    if task.answer_type in ("choice", "yes_no", "letters"):
        first_line = next((line for line in text.splitlines() if line.strip(_MARKS)), "")
        opening = _opening(task, text, everywhere[0])
        if opening is not None and (task.answer_type == "yes_no" or len(first_line.split()) == 1):
            return opening
        bracketed = [letter for letter in re.findall(r"\(([A-Z])\)", text) if letter in task.choices]
        if task.answer_type == "choice" and bracketed:
            return bracketed[-1]
    return _last_line(task, text) or everywhere[-1]


def _announced_before(task: Task, text: str) -> str | None:
    """X, where the text ends on "X is the answer" or the like."""
    found = None
    for announcement in _ANNOUNCED_BEFORE.finditer(text):
        before = candidates(task, announcement.group(1))
        found = before[-1] if before else found
    return found


def _last_line(task: Task, text: str) -> str | None:
    """The candidate that a last line is and nothing else, marks aside."""
    lines = [line for line in text.splitlines() if line.strip(_MARKS)]
    found = candidates(task, lines[-1]) if len(lines) > 1 else []
    return found[0] if len(found) == 1 and len(lines[-1].split()) == len(found[0].split()) else None


def _opening(task: Task, text: str, first: str) -> str | None:
    """The first candidate if the text starts with it, marks and currency aside, and no calculation follows it."""
    bare, start = text.lstrip(_MARKS), first.lstrip(_MARKS)
    if not start or not bare.casefold().startswith(start.casefold()):
        return None
    if (
        task.answer_type == "letters"
        and len(bare.splitlines()[0].split()) > 1
        and not text.lstrip().startswith(('"', "'", "“"))
    ):
        return None  # some word a sentence begins with
    rest = bare[len(start) :]
    if task.answer_type in ("integer", "float") and (_OPERATOR.match(rest) or _LIST.search(text)):
        return None
    return first


def _letters_chosen(task: Task, text: str) -> list[str]:
    """Choices named in a text: capitals that stand alone, or any letter in brackets; an article is none."""
    only = text.strip(" \n\t.,:;!*_\"'()[]").upper()
    if only in task.choices:
        return [only]
    found = _choice_pattern(task.choices).finditer(text)
    return [(match.group(1) or match.group(2)).upper() for match in found if not _denied(text, match)]


def _denied(text: str, match: re.Match[str]) -> bool:
    """Whether the text says that this is not the answer: "not A", "B is wrong"."""
    before, after = text[max(0, match.start() - 16) : match.start()], text[match.end() : match.end() + 24]
    return bool(_REFUSED.search(before) or _WRONG.match(after))


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
    quoted = _QUOTED.findall(text)
    if len(quoted) > 1 and all(len(letters) == 1 for letters in quoted):
        return ["".join(quoted)]
    return quoted or _WORD.findall(text)


@functools.lru_cache(maxsize=65536)  # texts are full of the same few numbers
def _value(written: str) -> tuple[float, bool] | None:
    return value(plain(written))


def _same_number(candidate: str, gold: str) -> bool:
    ours, theirs = _value(candidate), _value(gold)
    if ours is None or theirs is None:
        return False
    (number, percent), (right, gold_percent) = ours, theirs
    close = max(_ABSOLUTE, _RELATIVE * abs(right))
    return abs(number - right) <= close or (percent and not gold_percent and abs(number / 100 - right) <= close)


def _bare(text: str) -> str:
    """The text without case, surrounding marks, a leading article and extra spaces."""
    return _ARTICLE.sub("", " ".join(text.casefold().split()).strip(" .,;:!?\"'“”‘’*_`"))
