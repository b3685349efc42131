"""Numbers as people and models write them: signs, currency, separators, fractions, percentages, words."""

from __future__ import annotations

import re
import unicodedata

_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))|(?<=\d)[\u00a0\u202f\u2009](?=\d{3}(?!\d))")
_DECIMAL_COMMA = re.compile(r"(?<=\d),(?=\d\d(?!\d))")
_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]{1,30})\}\s*\{([^{}]{1,30})\}")
_LATEX = re.compile(
    r"\\(?:text(?:tt|bf|it|rm)?|math(?:rm|bf|tt|it)|mbox|operatorname)\s*\{([^{}]*)\}"
    r"|\\[!,;: ]|\\(?=[$%])|\{(?=,\})|(?<=,)\}"
)
_POWERS = str.maketrans({"²": "^2", "³": "^3", "\u2212": "-", "\u2044": "/"})
_NUMBER = re.compile(
    r"""(?<![A-Za-z0-9_])(?=[-$€£¥.\d])(?P<minus>-(?=[\d.$€£¥]))?(?:[$€£¥]\s?)?(?P<inner>-)?
        (?P<whole>\d+(?:\.\d+)?|\.\d+)
        (?:\s+(?P<top>\d+)\s?/\s?(?P<bottom>\d+)(?!\d)|\s?/\s?(?P<divisor>\d+(?:\.\d+)?)(?![\d/])
          |(?P<half>\s+and\s+(?:a|one)\s+half\b))?
        (?P<power>[eE][+-]?\d{1,3}(?!\w))?
        (?P<scale>k\b|\s(?:hundred|thousand|million|billion)\b)?
        (?P<percent>\s?(?:%|percent\b|per\ cent\b))?(?!\s?\^)""",
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
_SHORT = {"half": 0.5, "one half": 0.5, "dozen": 12.0}
_ANY_WORD = "|".join((*_UNITS, *_TENS, *_SCALES))
_WORDS = re.compile(
    r"\b(?:(?:one[ -])?half|dozen)\b|"
    + rf"\b(?:minus |negative )?(?:(?:{_ANY_WORD})(?:[\s-]+(?:and[\s-]+)?(?=(?:{_ANY_WORD})\b))?)+\b",
    re.I,
)


def plain(text: str) -> str:
    """The text with LaTeX, full-width characters, signs and separators of thousands written plainly."""
    if "\\" in text or "{" in text:
        text = _LATEX.sub(lambda found: found.group(1) or "", _FRACTION.sub(r"\1/\2", text))
    if "," in text or not text.isascii():
        text = _THOUSANDS.sub("", text)
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.translate(_POWERS)).translate(_POWERS)
    return _DECIMAL_COMMA.sub(".", text) if "," in text else text


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
        return None if words is None else (_in_words(words.group()), False)
    number = float(match["whole"] + (match["power"] or ""))  # too large a power is infinity, which equals nothing
    if match["top"] and float(match["bottom"]):
        number += float(match["top"]) / float(match["bottom"])
    if match["divisor"] and float(match["divisor"]):
        number /= float(match["divisor"])
    if match["half"]:
        number += 0.5
    if match["scale"]:
        number *= _SCALES.get(match["scale"].strip(), 1000)
    return -number if match["minus"] or match["inner"] else number, bool(match["percent"])


def _in_words(text: str) -> float:
    short = text.lower().replace("-", " ")
    if short in _SHORT:
        return _SHORT[short]
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
    return float(sign * (total + group))
