"""Reading upstream files into (question, answer) texts, in the reference's exact form."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from ftcot_jax.errors import FtcotError

Texts = list[tuple[str, str]]


def math_word_problems(text: str, file: str) -> Texts:
    """SingleEq, AddSub and MultiArith: JSON rows with ``sQuestion`` and ``lSolutions``; float answers as printed."""
    return [_row(row, n, file, _math_word_problem) for n, row in enumerate(_json(text, file))]


def multiarith(text: str, file: str) -> Texts:
    """MultiArith: as `math_word_problems`, with answers as integers."""
    return [(question, answer.removesuffix(".0")) for question, answer in math_word_problems(text, file)]


def svamp(text: str, file: str) -> Texts:
    """SVAMP: JSON rows; the question is body, a space, and question."""
    return [_row(row, n, file, _svamp) for n, row in enumerate(_json(text, file))]


def gsm8k(text: str, file: str) -> Texts:
    """GSM8K: JSON lines; the answer is what follows ``####``."""
    texts = []
    for number, line in enumerate(text.splitlines()):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise FtcotError(f"{file}, line {number + 1}: not JSON ({error})") from error
        texts.append(_row(row, number, file, _gsm8k))
    return texts


def examples(text: str, file: str) -> Texts:
    """Coin Flip and Last Letter: a JSON object whose ``examples`` have ``question`` and ``answer``."""
    data = _json(text, file)
    if not isinstance(data, dict) or "examples" not in data:
        raise FtcotError(f"{file}: no 'examples' in it")
    return [_row(row, n, file, lambda row: (row["question"], row["answer"])) for n, row in enumerate(data["examples"])]


def _math_word_problem(row: Any) -> tuple[str, str]:
    return row["sQuestion"].strip(), str(row["lSolutions"][0])


def _svamp(row: Any) -> tuple[str, str]:
    return f"{row['Body'].strip()} {row['Question'].strip()}", str(row["Answer"])


def _gsm8k(row: Any) -> tuple[str, str]:
    return row["question"].strip(), row["answer"].split("#### ")[1].strip()


def _row(row: Any, number: int, file: str, take: Callable[[Any], tuple[str, str]]) -> tuple[str, str]:
    try:
        return take(row)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise FtcotError(f"{file}, row {number}: not of the expected form ({type(error).__name__}: {error})") from error


def _json(text: str, file: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise FtcotError(f"{file}: not JSON ({error})") from error
