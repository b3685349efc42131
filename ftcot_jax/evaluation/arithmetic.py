"""Sums as people write them in sentences: "24 people", "10 rows x 20 flowers/row", "2 1/2", "30% of 400", "4(12)".

Text to tokens, and tokens to a number by recursive descent. Nothing of the text is ever executed.
"""

from __future__ import annotations

import dataclasses
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
MEASURES = {
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
_MOST_DEPTH = 12
_MOST_UNIT_WORDS = 6


@dataclasses.dataclass(frozen=True, slots=True)
class Token:
    kind: str
    text: str
    start: int
    end: int


class Unreadable(Exception):
    """The tokens are no expression, or none of whose value we are sure."""


def plain(text: str) -> str:
    """The text with LaTeX and typographic signs written plainly."""
    if "\\" in text:
        for pattern, instead in _LATEX:
            text = pattern.sub(instead, text)
    return text.translate(_SIGNS)


def read_tokens(line: str) -> list[Token]:
    """Tokens; parentheses without a digit ("(already in the vase)") are comments and left out."""
    line = re.sub(r"(?<![^\W\d_])\([^()\d=]*[^\W\d_]{2}[^()\d=]*\)", lambda found: " " * len(found.group()), line)
    tokens: list[Token] = []
    for match in _TOKEN.finditer(line):
        kind = str(match.lastgroup if match.lastgroup != "percent" else "number")
        text = match.group()
        after = line[match.end() : match.end() + 1]
        if kind == "number" and match["percent"] is None and after.isalpha():
            rest = re.match(r"[^\W\d_]+", line[match.end() :])
            assert rest is not None
            if rest.group() in ("x", "X") and re.match(r"\s*[$]?[\d.(]", line[match.end() + 1 :]):
                pass  # 4x5
            elif rest.group().lower() not in MEASURES:
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
        tokens.append(Token(kind, text, match.start(), match.end()))
    return tokens


def start_of_suffix(line: str, tokens: Sequence[Token]) -> int | None:
    """Where the longest expression that ends the tokens starts."""
    for start, token in enumerate(tokens):
        if token.kind in ("number", "open") or token.text == "-":
            try:
                parser = _Parser(line, tokens[start:], 1.0)
                parser.sum()
            except Unreadable:
                continue
            if parser.place == len(tokens) - start:
                return start
    return None


def end_of_prefix(line: str, tokens: Sequence[Token]) -> int | None:
    """Where the longest expression that starts the tokens ends."""
    parser = _Parser(line, tokens, 1.0)
    try:
        parser.sum()
    except Unreadable:
        return None
    return parser.place


def end_of_first_number(line: str, tokens: Sequence[Token]) -> int:
    """Where the number that starts the tokens ends, with its unit; 0 if none does."""
    parser = _Parser(line, tokens, 1.0)
    try:
        parser.atom()
    except Unreadable:
        return 0
    return parser.place


def value_of(line: str, tokens: Sequence[Token], percent: float) -> float:
    """The value of the tokens as one expression.

    Args:
      line: that the tokens are of.
      tokens: all of which the expression has to take.
      percent: what "%" multiplies by: 0.01, or 1 where percentages are reckoned with as numbers.

    Raises:
      Unreadable: they are no expression, or divide by zero.
    """
    parser = _Parser(line, tokens, percent)
    value = parser.sum()
    if parser.place < len(tokens) or not math.isfinite(value):
        raise Unreadable
    return value


class _Parser:
    """Recursive descent over tokens: sums of products of powers of numbers with units.

    Attributes:
      place: of the first token not taken.
    """

    def __init__(self, line: str, tokens: Sequence[Token], percent: float) -> None:
        self.place = 0
        self._line, self._tokens, self._percent, self._depth = line, tokens, percent, 0

    def sum(self) -> float:
        value = self._product()
        while (sign := self._operator("+", "-")) is not None:
            taken = self.place
            try:
                self.place += 1
                term = self._product()
            except Unreadable:
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
            except Unreadable:
                self.place = taken
                return value
            if sign == "/" and factor == 0:
                raise Unreadable
            value = value * factor if sign == "*" else value / factor

    def _power(self) -> float:
        value = self.atom()
        if self._operator("^", "**") is not None:
            self.place += 1
            exponent = self.atom()
            if abs(exponent) > 20 or abs(value) > 1e6 or (value <= 0 and exponent != int(exponent)) or not value:
                raise Unreadable
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
                raise Unreadable
            self.place += 1
            value = self.sum()
            closing = self._peek()
            if closing is None or closing.kind != "close":
                raise Unreadable
            self.place += 1
            self._depth -= 1
            self._skip_unit()
            return value
        if token is None or token.kind != "number":
            raise Unreadable
        self.place += 1
        value = _number(token.text, self._percent) + self._mixed(token)
        following = self._peek()
        if following is not None and following.text.lower() in _SCALES:
            value *= _SCALES[following.text.lower()]
            self.place += 1
        self._skip_unit()
        return value

    def _mixed(self, whole: Token) -> float:
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

    def _peek(self) -> Token | None:
        return self._at(0)

    def _kind(self, ahead: int) -> str | None:
        token = self._at(ahead)
        return None if token is None else token.kind

    def _at(self, ahead: int) -> Token | None:
        place = self.place + ahead
        return self._tokens[place] if 0 <= place < len(self._tokens) else None


def _number(text: str, percent: float) -> float:
    digits = re.sub(r"[^\d.]", "", text)
    return float(digits) * (percent if "%" in text else 1.0)
