"""Reading upstream files into (question, answer) texts, in the reference's exact form."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ftcot_jax.errors import FtcotError
from ftcot_jax.tasks.task import Texts
from ftcot_jax.text_files import parse_json

LETTERS = string.ascii_uppercase


def math_word_problems(text: str, file: str) -> Texts:
    """SingleEq, AddSub and MultiArith: JSON rows with ``sQuestion`` and ``lSolutions``; float answers as printed."""
    return [_row(row, n, file, _math_word_problem) for n, row in enumerate(parse_json(text, file))]


def multiarith(text: str, file: str) -> Texts:
    """MultiArith: as `math_word_problems`, with answers as integers."""
    return [(question, answer.removesuffix(".0")) for question, answer in math_word_problems(text, file)]


def svamp(text: str, file: str) -> Texts:
    """SVAMP: JSON rows; the question is body, a space, and question."""
    return [_row(row, n, file, _svamp) for n, row in enumerate(parse_json(text, file))]


def gsm8k(text: str, file: str) -> Texts:
    """GSM8K: JSON lines; the answer is what follows ``####``."""
    return [_row(row, n, file, _gsm8k) for n, row in enumerate(_json_lines(text, file))]


def aqua(text: str, file: str) -> Texts:
    """AQuA: JSON lines with five ``options`` such as ``A)3 km``, in their order."""
    return [_row(row, n, file, _aqua) for n, row in enumerate(_json_lines(text, file))]


def commonsense_qa(text: str, file: str) -> Texts:
    """CommonsenseQA: JSON lines with a ``stem`` and lettered ``choices``, in their order."""
    return [_row(row, n, file, _commonsense_qa) for n, row in enumerate(_json_lines(text, file))]


def strategy_qa(text: str, file: str) -> Texts:
    """StrategyQA of BIG-bench: ``target_scores`` of Yes and No."""
    return [_row(row, n, file, _strategy_qa) for n, row in enumerate(_examples(text, file))]


def tracking_shuffled_objects(text: str, file: str) -> Texts:
    """Tracking Shuffled Objects of BIG-bench: choices in the file's order; the question keeps its last space."""
    return [_row(row, n, file, lambda row: _bigbench_choice(row, None)) for n, row in enumerate(_examples(text, file))]


def date_understanding(text: str, file: str) -> Texts:
    """Date Understanding of BIG-bench: choices shuffled by one seed-0 stream over the whole file.

    Choice j goes to place ``permutation[j]``.
    """
    stream = np.random.RandomState(0)
    return [
        _row(row, n, file, lambda row: _bigbench_choice(row, stream)) for n, row in enumerate(_examples(text, file))
    ]


def examples(text: str, file: str) -> Texts:
    """Coin Flip and Last Letter: a JSON object whose ``examples`` have ``question`` and ``answer``."""
    return [
        _row(row, n, file, lambda row: (row["question"], row["answer"])) for n, row in enumerate(_examples(text, file))
    ]


def with_choices(question: str, choices: Sequence[str]) -> str:
    """A question with its choices behind it, lettered, as every multiple-choice task of the reference has them."""
    lettered = ", ".join(f"({letter}) {choice.strip()}" for letter, choice in zip(LETTERS, choices, strict=False))
    return f"{question} Answer choices: {lettered}."


def _math_word_problem(row: Any) -> tuple[str, str]:
    return row["sQuestion"].strip(), str(row["lSolutions"][0])


def _svamp(row: Any) -> tuple[str, str]:
    return f"{row['Body'].strip()} {row['Question'].strip()}", str(row["Answer"])


def _gsm8k(row: Any) -> tuple[str, str]:
    return row["question"].strip(), row["answer"].split("#### ")[1].strip()


def _aqua(row: Any) -> tuple[str, str]:
    options = row["options"]
    if [option[:2] for option in options] != [f"{letter})" for letter in "ABCDE"]:
        raise KeyError(f"options A) to E), found {options}")
    return with_choices(row["question"].strip(), [option[2:] for option in options]), row["correct"]


def _commonsense_qa(row: Any) -> tuple[str, str]:
    choices = [choice["text"] for choice in row["question"]["choices"]]
    return with_choices(row["question"]["stem"].strip(), choices), row["answerKey"]


def _strategy_qa(row: Any) -> tuple[str, str]:
    return row["input"].strip(), "Yes" if row["target_scores"]["Yes"] == 1 else "No"


def _bigbench_choice(row: Any, shuffle: np.random.RandomState | None) -> tuple[str, str]:
    scores = list(row["target_scores"].items())
    places = range(len(scores)) if shuffle is None else shuffle.permutation(len(scores))
    placed = {int(place): choice.removesuffix(".") for place, (choice, _) in zip(places, scores, strict=True)}
    right = next(int(place) for place, (_, score) in zip(places, scores, strict=True) if score)
    # The authors stripped the questions of Date Understanding only.
    question = row["input"] if shuffle is None else row["input"].strip()
    text = with_choices(f"{question}\nWhich choice is true?", [placed[place] for place in sorted(placed)])
    return text, LETTERS[right]


def _row(row: Any, number: int, file: str, take: Callable[[Any], tuple[str, str]]) -> tuple[str, str]:
    try:
        return take(row)
    except (KeyError, IndexError, TypeError, AttributeError, StopIteration) as error:
        raise FtcotError(f"{file}, row {number}: not of the expected form ({type(error).__name__}: {error})") from error


def _examples(text: str, file: str) -> list[Any]:
    data = parse_json(text, file)
    if not isinstance(data, dict) or not isinstance(data.get("examples"), list):
        raise FtcotError(f"{file}: no list of 'examples' in it")
    found: list[Any] = data["examples"]
    return found


def _json_lines(text: str, file: str) -> list[Any]:
    rows = []
    for number, line in enumerate(text.split("\n"), 1):  # not splitlines: questions hold other line separators
        if not line.strip():
            continue
        rows.append(parse_json(line, file, number))
    return rows
