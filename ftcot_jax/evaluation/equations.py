"""The equations of a rationale, each checked: "3 + 5 = 9" is wrong, and so is "24 - 8 people = 15 people".

A checker that cries wolf is worse than none, so whatever it cannot read for certain it does not judge: unknowns
("3x + 15 = 27"), functions, clock times, dates, mixed measures ("1 hour - 20 minutes = 40 minutes"), bare
statements ("1 dozen = 12"). Rounded results are right, to as many decimals as are written, and so is a running
calculation ("3 + 4 = 7 + 5 = 12"). Nothing of the text is ever executed.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Sequence

_LATEX = (
    (re.compile(r"\\[dt]?frac\s*\{([^{}]{1,40})\}\s*\{([^{}]{1,40})\}"), r"((\1)/(\2))"),
    (re.compile(r"\\(?:times|cdot)\b"), "*"),
    (re.compile(r"\\div\b"), "/"),
    (re.compile(r"\\text\s*\{([^{}]*)\}"), r" \1 "),
    (re.compile(r"\\[()\[\],;! ]|\\(?=[$%])"), " "),
)
_SIGNS = str.maketrans(
    {"×": "*", "·": "*", "⋅": "*", "÷": "/", "\u2212": "-", "–": "-", "²": "^2", "³": "^3", "\u2044": "/", "’": "'"}
)
_TOKEN = re.compile(
    r"""(?P<odd>(?<=[^\W\d_])\d+|\d+:\d+|\d+/\d+/\d+|\d+(?:st|nd|rd|th)\b|\d+!(?=\s*[-+*/\d(=])|[<>!=:]=+|==+|\d[\d.,]*[eE]\d)
      |(?P<arrow>[-=]+>)
      |(?P<number>(?:[$€£¥]\s?)?(?:\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?P<percent>\s?%)?)
      |(?P<equals>=)
      |(?P<operator>\*\*|[-+*/^])
      |(?P<open>[(\[])
      |(?P<close>[)\]])
      |(?P<word>[^\W\d_]+(?:['-][^\W\d_]+)*)
      |(?P<stop>[^\s])""",
    re.VERBOSE,
)
_SPOKEN = {"plus": "+", "minus": "-", "times": "*"}
_SCALES = {"hundred": 1e2, "thousand": 1e3, "million": 1e6, "billion": 1e9}
# Words before an expression that make it part of another ("half of 10 + 5", "10% off 50 + 5").
_MODIFIERS = frozenset(
    re.findall(r"\w+", "of off than half twice double triple by from root square cube third quarter times percent per")
)
_LABELS = frozenset(
    re.findall(r"\w+", "step day week month year box table number part case option room group problem question no")
)
_MEASURES = {
    word: group
    for group, words in {
        "second": "second seconds sec secs",
        "minute": "minute minutes min mins",
        "hour": "hour hours hr hrs",
        "day": "day days",
        "week": "week weeks",
        "month": "month months",
        "year": "year years",
        "inch": "inch inches in",
        "foot": "foot feet ft",
        "yard": "yard yards yd",
        "mile": "mile miles",
        "mm": "mm millimeters",
        "cm": "cm centimeter centimeters",
        "m": "m meter meters metres",
        "km": "km kilometer kilometers",
        "ounce": "ounce ounces oz",
        "pound": "pound pounds lb lbs",
        "gram": "gram grams g",
        "kilogram": "kilogram kilograms kg",
        "cup": "cup cups",
        "pint": "pint pints",
        "quart": "quart quarts",
        "gallon": "gallon gallons",
        "litre": "liter liters litre litres",
        "ml": "ml milliliters",
        "cent": "cent cents penny pennies",
        "nickel": "nickel nickels",
        "dime": "dime dimes",
        "quarter": "quarter quarters",
        "dollar": "dollar dollars",
        "dozen": "dozen dozens",
        "pair": "pair pairs",
    }.items()
    for word in words.split()
}
_MOST_TOKENS = 60  # of one side; a longer one is a student rambling
_MOST_DEPTH = 12
_MOST_UNIT_WORDS = 6


@dataclasses.dataclass(frozen=True)
class Equation:
    """An equation that could be judged.

    Attributes:
      text: as written, from the first sign of its left side to the last of its right.
      value: of its left side.
      holds: whether the right side says the same, or the same rounded.
    """

    text: str
    value: float
    holds: bool


@dataclasses.dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    start: int
    end: int


class _Unreadable(Exception):
    """The tokens are no expression, or none of whose value we are sure."""


def check_equations(text: str, may_be_cut: bool = False) -> list[Equation]:
    """The equations of a text that can be judged, in order.

    Args:
      text: a rationale.
      may_be_cut: the text perhaps ends in the middle of a number: one it ends with proves nothing.
    """
    if "=" not in text:
        return []
    found = []
    for line in _plain(text).split("\n"):
        if "=" in line:
            found += _check_line(line)
    if may_be_cut and found and not found[-1].holds and _plain(text).rstrip().endswith(found[-1].text):
        found.pop()
    return found


def _plain(text: str) -> str:
    if "\\" in text:
        for pattern, instead in _LATEX:
            text = pattern.sub(instead, text)
    return text.translate(_SIGNS)


def _check_line(line: str) -> list[Equation]:
    tokens = _tokens(line)
    sides: list[list[_Token]] = [[]]
    for token in tokens:
        if token.kind == "equals":
            sides.append([])
        else:
            sides[-1].append(token)
    found = []
    for number, (left, right) in enumerate(itertools.pairwise(sides)):
        equation = _check(line, left, right, chained=number > 0)
        if equation is not None:
            found.append(equation)
    return found


def _tokens(line: str) -> list[_Token]:
    """Tokens; parentheses without a digit ("(already in the vase)") are comments and left out."""
    line = re.sub(r"(?<![^\W\d_])\([^()\d=]*[^\W\d_]{2}[^()\d=]*\)", lambda found: " " * len(found.group()), line)
    tokens: list[_Token] = []
    for match in _TOKEN.finditer(line):
        kind = str(match.lastgroup if match.lastgroup != "percent" else "number")
        text = match.group()
        after = line[match.end() : match.end() + 1]
        if kind == "number" and match["percent"] is None and after.isalpha():
            rest = re.match(r"[^\W\d_]+", line[match.end() :])
            assert rest is not None
            if rest.group() in ("x", "X") and re.match(r"\s*[$]?[\d.(]", line[match.end() + 1 :]):
                pass  # 4x5
            elif rest.group().lower() not in _MEASURES:
                kind = "odd"  # 3x, 4apples
        if kind == "word" and len(text) == 1:
            sign = text in "xX" and tokens and tokens[-1].kind in ("number", "close", "word")
            follows = re.match(r"\s*[$]?[\d.(]", line[match.end() :])
            if sign and follows:
                kind, text = "operator", "*"
            elif text not in ("a", "A", "I"):
                kind = "odd"  # an unknown
        if kind == "word" and text in _SPOKEN and re.match(r"\s*[$]?[\d.(]", line[match.end() :]):
            kind, text = "operator", _SPOKEN[text]
        tokens.append(_Token(kind, text, match.start(), match.end()))
    return tokens


def _check(line: str, left: list[_Token], right: list[_Token], chained: bool) -> Equation | None:
    left, right = left[-_MOST_TOKENS:], right[:_MOST_TOKENS]
    first = _start_of_suffix(line, left)
    last = _end_of_prefix(line, right)
    if first is None or last is None:
        return None
    before, after = left[:first], right[last:]
    if before and before[-1].kind in ("operator", "odd") and not _is_bullet(before):
        return None
    if _called(line, left, first) or (after and after[0].kind in ("operator", "odd", "open")):
        return None
    one, other = left[first:], right[:last]
    if not _calculates(one) and not _calculates(other):
        return None
    if chained and first == 0 and not _calculates(other) and not _calculates(one):
        return None
    readings = [(one, other), (one, other[: _first_number(line, other)])]
    if _is_labelled(left, first):
        readings.append((one[2:], other))
    if one[0].text == "-" and first == 0:
        readings.append((one[1:], other))  # a dash that opens a line is no sign
    try:
        value = _value(line, one, 0.01)
        holds = any(
            _agree(_value(line, a, percent), b, _value(line, b, percent), _divides(line, a))
            for a, b in readings
            for percent in (0.01, 1.0)
            if a and b
        )
    except _Unreadable:
        return None
    if not holds and _is_unsure(before, one, other, after):
        return None
    return Equation(line[one[0].start : other[-1].end], value, holds)


def _is_bullet(before: Sequence[_Token]) -> bool:
    return len(before) == 1 and before[0].text in ("-", "*", "+")


def _is_labelled(left: Sequence[_Token], first: int) -> bool:
    """Whether an expression starts as in "Day 1 - 5 + 5 = 10"."""
    return (
        first > 0 and len(left) > first + 2 and left[first - 1].text.lower() in _LABELS and left[first + 1].text == "-"
    )


def _called(line: str, left: Sequence[_Token], first: int) -> bool:
    """Whether the expression is a function's argument: f(2) = 4."""
    if not first or left[first].kind != "open":
        return False
    return left[first - 1].kind in ("word", "odd") and left[first - 1].end == left[first].start


def _calculates(tokens: Sequence[_Token]) -> bool:
    return any(token.kind == "operator" for token in tokens[1:]) or any(token.text == "of" for token in tokens)


def _is_unsure(
    before: Sequence[_Token], one: Sequence[_Token], other: Sequence[_Token], after: Sequence[_Token]
) -> bool:
    """Whether a false equation may be a true one that says more than its numbers."""
    if before and before[-1].kind == "word" and before[-1].text.lower() in _MODIFIERS:
        return True
    words = [token.text.lower() for token in (*one, *other) if token.kind == "word"]
    if len({_MEASURES[word] for word in words if word in _MEASURES}) > 1:
        return True
    if other[-1].text == "and" and [token.kind for token in after[:2]][:1] == ["number"] and not _calculates(after[:2]):
        return True  # "= 20 apples and 12 peaches"
    if any(word in ("remainder", "left-over", "leftover") for word in words):
        return True
    if one[0].text == "-" or _is_fraction(other):
        return True  # the rest of a list over lines; a date ("8/3 - 7 = 7/27"), or a fraction of something
    if before and not _calculates(one):
        return True  # "35 push-ups and 3 crunches = 35 + 3"
    if _is_fraction(one) and not _calculates(other):
        return True  # "1/8 lap = 3 minutes"
    numbers = [token.text for token in one if token.kind == "number"]
    percents = sum("%" in text for text in numbers)
    return 0 < percents < len(numbers) and any(token.text in ("+", "-") for token in one)


def _is_fraction(tokens: Sequence[_Token]) -> bool:
    """Whether this is one proper fraction, or a month and a day."""
    if [token.kind for token in tokens[:3]] != ["number", "operator", "number"] or tokens[1].text != "/":
        return False
    if any(token.kind != "word" for token in tokens[3:]):
        return False
    top, bottom = tokens[0].text, tokens[2].text
    return top.isdigit() and bottom.isdigit() and (int(top) < int(bottom) or (int(top) <= 12 and int(bottom) <= 31))


def _start_of_suffix(line: str, tokens: Sequence[_Token]) -> int | None:
    """Where the longest expression that ends the tokens starts."""
    for start, token in enumerate(tokens):
        if token.kind in ("number", "open") or token.text == "-":
            try:
                parser = _Parser(line, tokens[start:], 1.0)
                parser.sum()
            except _Unreadable:
                continue
            if parser.place == len(tokens) - start:
                return start
    return None


def _end_of_prefix(line: str, tokens: Sequence[_Token]) -> int | None:
    """Where the longest expression that starts the tokens ends."""
    parser = _Parser(line, tokens, 1.0)
    try:
        parser.sum()
    except _Unreadable:
        return None
    return parser.place


def _first_number(line: str, tokens: Sequence[_Token]) -> int:
    parser = _Parser(line, tokens, 1.0)
    try:
        parser.atom()
    except _Unreadable:
        return 0
    return parser.place


def _value(line: str, tokens: Sequence[_Token], percent: float) -> float:
    parser = _Parser(line, tokens, percent)
    value = parser.sum()
    if parser.place < len(tokens) or not math.isfinite(value):
        raise _Unreadable
    return value


class _Parser:
    """Recursive descent over tokens: sums of products of powers of numbers with units.

    Attributes:
      place: of the first token not taken.
    """

    def __init__(self, line: str, tokens: Sequence[_Token], percent: float) -> None:
        self.place = 0
        self._line, self._tokens, self._percent, self._depth = line, tokens, percent, 0

    def sum(self) -> float:
        value = self._product()
        while (sign := self._operator("+", "-")) is not None:
            taken = self.place
            try:
                self.place += 1
                term = self._product()
            except _Unreadable:
                self.place = taken
                break
            value = value + term if sign == "+" else value - term
        return value

    def _product(self) -> float:
        value = self._power()
        while True:
            taken = self.place
            sign = self._operator("*", "/")
            if sign is None and self._touching_parenthesis():
                sign = "*"  # 4(12), (2)(3)
            elif sign is None and self._is_share_of():
                sign = "*"
                self.place += 1
            elif sign is not None:
                self.place += 1
            else:
                return value
            try:
                factor = self._power()
            except _Unreadable:
                self.place = taken
                return value
            if sign == "/" and factor == 0:
                raise _Unreadable
            value = value * factor if sign == "*" else value / factor

    def _power(self) -> float:
        value = self.atom()
        if self._operator("^", "**") is not None:
            self.place += 1
            exponent = self.atom()
            if abs(exponent) > 20 or abs(value) > 1e6 or (value <= 0 and exponent != int(exponent)) or not value:
                raise _Unreadable
            return float(value**exponent)
        return value

    def atom(self) -> float:
        """A number with its unit, a negative one, or a sum in parentheses."""
        if self._operator("-") is not None:
            self.place += 1
            return -self.atom()
        token = self._peek()
        if token is not None and token.kind == "open":
            self._depth += 1
            if self._depth > _MOST_DEPTH:
                raise _Unreadable
            self.place += 1
            value = self.sum()
            closing = self._peek()
            if closing is None or closing.kind != "close":
                raise _Unreadable
            self.place += 1
            self._depth -= 1
            self._skip_unit()
            return value
        if token is None or token.kind != "number":
            raise _Unreadable
        self.place += 1
        value = _number(token.text, self._percent) + self._mixed(token)
        following = self._peek()
        if following is not None and following.text.lower() in _SCALES:
            value *= _SCALES[following.text.lower()]
            self.place += 1
        self._skip_unit()
        return value

    def _mixed(self, whole: _Token) -> float:
        """The fraction of "2 1/2", else 0."""
        ahead = self._tokens[self.place : self.place + 3]
        if [token.kind for token in ahead] != ["number", "operator", "number"] or ahead[1].text != "/":
            return 0.0
        if not all(token.text.isdigit() for token in (whole, ahead[0], ahead[2])) or whole.end == ahead[0].start:
            return 0.0
        top, bottom = int(ahead[0].text), int(ahead[2].text)
        if not 0 < top < bottom:
            return 0.0
        self.place += 3
        return top / bottom

    def _skip_unit(self) -> None:
        """Words after a number, and "/row" or "per row"; a word directly before a parenthesis is a function."""
        for _ in range(_MOST_UNIT_WORDS):
            token = self._peek()
            if token is not None and token.text == "/" and self._kind(1) == "word" and not self._calls(1):
                self.place += 2
                continue
            if token is None or token.kind != "word" or self._is_share_of() or self._calls(0):
                return
            self.place += 1

    def _calls(self, ahead: int) -> bool:
        word, after = self._at(ahead), self._at(ahead + 1)
        return word is not None and after is not None and after.kind == "open" and after.start == word.end

    def _is_share_of(self) -> bool:
        """Whether an "of" multiplies: after a percentage or a fraction, before a number."""
        token, following = self._peek(), self._at(1)
        if token is None or token.text != "of" or following is None or following.kind not in ("number", "open"):
            return False
        before, bar = self._at(-1), self._at(-2)
        return before is not None and (
            "%" in before.text or before.kind == "close" or (bar and bar.text == "/") is True
        )

    def _touching_parenthesis(self) -> bool:
        token, before = self._peek(), self._at(-1)
        if token is None or before is None or token.kind != "open":
            return False
        return before.kind in ("number", "close") and before.end == token.start

    def _operator(self, *signs: str) -> str | None:
        token = self._peek()
        return token.text if token is not None and token.kind == "operator" and token.text in signs else None

    def _peek(self) -> _Token | None:
        return self._at(0)

    def _kind(self, ahead: int) -> str | None:
        token = self._at(ahead)
        return None if token is None else token.kind

    def _at(self, ahead: int) -> _Token | None:
        place = self.place + ahead
        return self._tokens[place] if 0 <= place < len(self._tokens) else None


def _number(text: str, percent: float) -> float:
    digits = re.sub(r"[^\d.]", "", text)
    return float(digits) * (percent if "%" in text else 1.0)


def _divides(line: str, tokens: Sequence[_Token]) -> bool:
    """Whether a result may be a rounded one: of a product or quotient; the bar of "2 1/2" is neither."""
    text = re.sub(r"\d\s+\d+/\d+", "", line[tokens[0].start : tokens[-1].end]) if tokens else ""
    return any(sign in text for sign in "*/^%(xX") or any(token.text == "*" for token in tokens)


def _agree(left: float, tokens: Sequence[_Token], right: float, rounded: bool) -> bool:
    """Whether the right side is the left's value, or that value rounded or cut to the decimals it is written with."""
    if math.isclose(left, right, rel_tol=1e-6, abs_tol=1e-9):
        return True
    if not rounded:
        return False
    numbers = [token.text for token in tokens if token.kind == "number"]
    if len(numbers) > 1:  # a calculation of its own, from numbers that may be rounded
        return any("." in text for text in numbers) and math.isclose(left, right, rel_tol=5e-3)
    decimals = len(re.sub(r"[^\d.]", "", numbers[0]).partition(".")[2]) + (
        2 if "%" in numbers[0] and right < 1.5 else 0
    )
    unit = 10.0**-decimals
    near = [math.floor(left / unit + 1e-9) * unit, math.ceil(left / unit - 1e-9) * unit]
    return any(math.isclose(right, value, rel_tol=1e-9, abs_tol=unit * 1e-3) for value in near)
