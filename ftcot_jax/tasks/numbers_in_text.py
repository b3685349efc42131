"""Numbers as people and models write them: signs, currency, separators, fractions, percentages, words."""

from __future__ import annotations

import re

_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]{1,30})\}\s*\{([^{}]{1,30})\}")
_LATEX = re.compile(r"\\(?:text|mathrm|mbox)\s*\{([^{}]*)\}|\\[!,;: ]|\\(?=[$%])")
_NUMBER = re.compile(
    r"""(?<!\w)(?P<minus>-(?=[\d.$€£¥]))?[$€£¥]?\s?(?P<inner>-)?
        (?P<whole>\d+(?:\.\d+)?|\.\d+)
        (?:\s+(?P<top>\d+)\s?/\s?(?P<bottom>\d+)(?!\d)|\s?/\s?(?P<divisor>\d+(?:\.\d+)?)(?![\d/]))?
        (?P<power>[eE][+-]?\d{1,3}(?!\w))?
        (?P<percent>\s?(?:%|percent\b|per\ cent\b))?""",
    re.VERBOSE,
)
_SMALL = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_UNITS = {word: number for number, word in enumerate(_SMALL)}
_TENS = {
    word: 10 * number
    for number, word in enumerate(("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"), 2)
}
_SCALES = {"hundred": 100, "thousand": 1_000, "million": 1_000_000, "billion": 1_000_000_000}
_ANY_WORD = "|".join((*_UNITS, *_TENS, *_SCALES))
_WORDS = re.compile(
    rf"\b(?:minus |negative )?(?:(?:{_ANY_WORD})(?:[\s-]+(?:and[\s-]+)?(?=(?:{_ANY_WORD})\b))?)+\b", re.I
)


def plain(text: str) -> str:
    """The text with LaTeX, typographic minus signs and separators of thousands written plainly."""
    text = text.replace("\u2212", "-").replace("\u00a0", " ")
    if "\\" in text:
        text = _LATEX.sub(lambda found: found.group(1) or "", _FRACTION.sub(r"\1/\2", text))
    return _THOUSANDS.sub("", text) if "," in text else text


def written_numbers(text: str) -> list[str]:
    """The numbers in a plain text as written, in order; words count only where there is no figure."""
    found = [match.group().strip() for match in _NUMBER.finditer(text)]
    return found or [match.group() for match in _WORDS.finditer(text)]


def value(written: str) -> tuple[float, bool] | None:
    """A written number's value, and whether it is a percentage; None if it is no number.

    The value of "50%" is 50: whether that is a half is for the comparison to say.
    """
    match = _NUMBER.search(written)
    if match is None:
        words = _WORDS.search(written)
        return None if words is None else (float(_in_words(words.group())), False)
    number = float(match["whole"])
    if match["power"]:
        number *= 10.0 ** int(match["power"][1:])
    if match["top"] and float(match["bottom"]):
        number += float(match["top"]) / float(match["bottom"])
    if match["divisor"] and float(match["divisor"]):
        number /= float(match["divisor"])
    return -number if match["minus"] or match["inner"] else number, bool(match["percent"])


def _in_words(text: str) -> int:
    total, group, sign = 0, 0, 1
    for word in re.split(r"[\s-]+", text.lower()):
        if word in ("minus", "negative"):
            sign = -1
        elif word == "hundred":
            group = max(group, 1) * 100
        elif word in _SCALES:
            total, group = total + max(group, 1) * _SCALES[word], 0
        else:
            group += _UNITS.get(word, 0) + _TENS.get(word, 0)
    return sign * (total + group)
