"""What is the matter with a text a model wrote: categories found by rule, for whoever reads many of them."""

from __future__ import annotations

import dataclasses
import re

from ftcot_jax.evaluation.equations import check_equations
from ftcot_jax.tasks.scoring import Verdict
from ftcot_jax.teacher.completion import Completion

SLIP = "arithmetic slip"
RIGHT_BUT_SLIP = "right answer, wrong equation"
REPETITION = "repetition"
CUT_OFF = "cut off"
WRONG_FORMAT = "wrong format"
NOT_ANSWERED = "not answered"
CATEGORIES = {
    SLIP: "an equation in the text is wrong",
    RIGHT_BUT_SLIP: "the answer is right though an equation on the way is wrong",
    REPETITION: "ends in a phrase that comes over and over",
    CUT_OFF: "a limit came before the end; or, where no reason was recorded, the rationale stops in mid-sentence",
    WRONG_FORMAT: "no answer where the template has one",
    NOT_ANSWERED: "the prompt was too long, or the server refused it",
}
NOT_ASKED_REASONS = frozenset({"prompt_too_long", "refused"})

_REPEATS = 4  # of a phrase, at least
_REPEATED_WORDS = 16  # that the repeats fill, at least
_LONGEST_PHRASE = 60  # in words
_STUTTER = re.compile(r"(.{1,12}?)\1{7,}.{0,12}$", re.DOTALL)  # "3333333333", "ha-ha-ha-..."
_STUTTER_CHARACTERS = 24
_MID_SENTENCE = re.compile(r"[^\W\d_]$|[,;:(=+*/×÷-]$")


@dataclasses.dataclass(frozen=True)
class Findings:
    """What is the matter with one completion.

    Attributes:
      categories: some of `CATEGORIES`, in their order.
      slips: its wrong equations, as written.
    """

    categories: tuple[str, ...]
    slips: tuple[str, ...]


def categorize(row: Completion, verdict: Verdict) -> Findings:
    """Returns the categories of a completion.

    Args:
      row: with its rationale apart (two steps) or in the completion (one).
      verdict: the scorer's.
    """
    if row.finish_reason in NOT_ASKED_REASONS:
        return Findings((NOT_ANSWERED,), ())
    rationale = row.reasoning_completion
    texts = ((rationale or "", row.reasoning_finish_reason), (row.completion, row.finish_reason))
    equations = [equation for text, reason in texts for equation in check_equations(text, reason != "stop")]
    slips = tuple(equation.text for equation in equations if not equation.holds)
    holds = {
        SLIP: bool(slips),
        RIGHT_BUT_SLIP: bool(slips) and verdict.correct,
        REPETITION: any(repeats_itself(text) for text in (rationale, row.completion) if text),
        CUT_OFF: _is_cut_off(row, verdict),
        WRONG_FORMAT: not verdict.correct_format or verdict.prediction is None,
    }
    return Findings(tuple(name for name in CATEGORIES if holds.get(name)), slips)


def repeats_itself(text: str) -> bool:
    """Whether a text ends in a phrase that comes at least four times in a row; the last time may break off."""
    tail = text.rstrip()[-400:]
    stutter = _STUTTER.search(tail)
    if stutter is not None and len(stutter.group()) >= _STUTTER_CHARACTERS and stutter.group(1).strip():
        return True
    words = text.split()
    for period in range(1, min(_LONGEST_PHRASE, len(words) // _REPEATS) + 1):
        # The very last word may be half a word.
        for end in (len(words), len(words) - 1):
            same = 0
            while same + period < end and words[end - 1 - same] == words[end - 1 - same - period]:
                same += 1
            if same + period >= max(_REPEATS * period, _REPEATED_WORDS):
                return True
    return False


def _is_cut_off(row: Completion, verdict: Verdict) -> bool:
    if row.reasoning_completion is None:
        return row.finish_reason == "length"
    if row.reasoning_finish_reason is not None:
        return row.reasoning_finish_reason == "length"
    return bool(_MID_SENTENCE.search(row.reasoning_completion.rstrip()))
