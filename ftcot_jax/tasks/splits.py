"""Splits: the paper's default, by template, from a file, and a validation part carved out of training."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ftcot_jax.errors import FtcotError, UsageError
from ftcot_jax.tasks.question import Question
from ftcot_jax.tasks.task import Split, Task
from ftcot_jax.text_files import read_json

TRAIN_SHARE = 0.7


def default_split(task: Task, count: int) -> Split:
    """The paper's split: the official one, or 70% by a seed-0 permutation, both halves sorted."""
    if task.train_size is None:
        order = np.random.RandomState(0).permutation(count)
        train = round(TRAIN_SHARE * count)
        return Split(_sorted(order[:train]), _sorted(order[train:]))
    train_part = np.arange(task.train_size)
    if task.train_sample is not None:
        train_part = np.random.RandomState(0).permutation(task.train_size)[: task.train_sample]
    return Split(_sorted(train_part), tuple(range(task.train_size, count)))


def template_split(template_of: Callable[[str], str], questions: Mapping[int, Question]) -> Split:
    """Templates are kept whole: 70% of them, in order of appearance, train, by a seed-0 permutation."""
    members: dict[str, list[int]] = {}
    for index in sorted(questions):
        members.setdefault(template_of(questions[index].question), []).append(index)
    order = np.random.RandomState(0).permutation(len(members))
    groups = list(members.values())
    train = round(TRAIN_SHARE * len(groups))
    halves = [[index for place in half for index in groups[place]] for half in (order[:train], order[train:])]
    return Split(_sorted(np.array(halves[0])), _sorted(np.array(halves[1])))


def without_names_and_digits(question: str) -> str:
    """What arithmetic word problems of one template share: the text without numbers and capitalised words."""
    return re.sub(r"\b[A-Z][a-z]+\b", "", re.sub(r"\d+", "", question))


def before_the_date_asked(question: str) -> str:
    """What Date Understanding's questions of one context share: all before "What is the date"."""
    return question.split("What is the date")[0]


def plain_text(question: str) -> str:
    """Equal for questions that are equal but for case and the space between words."""
    return " ".join(question.split()).casefold()


def read_split(path: str, questions: Mapping[int, Question]) -> Split:
    """Reads a split in the authors' form: a JSON object with lists "train" and "test", and perhaps "validation".

    Raises:
      UsageError: there is no such file.
      FtcotError: it is of another form, or an index is of no question, or is there twice.
    """
    raw = read_json(path, "task.split")
    if (
        not isinstance(raw, dict)
        or not {"train", "test"} <= raw.keys() <= {*_PARTS}
        or not all(isinstance(part, list) for part in raw.values())
    ):
        raise FtcotError(f"{path}: a split is an object with lists 'train' and 'test', and perhaps 'validation'")
    seen: dict[int, str] = {}
    for part in _PARTS:
        for place, index in enumerate(raw.get(part, [])):
            if type(index) is not int or index not in questions:
                last = max(questions)
                raise FtcotError(
                    f"{path}: {part}[{place}] is {index!r}; the task has questions {min(questions)} to {last}"
                )
            if index in seen:
                raise FtcotError(f"{path}: {part}[{place}]: question {index} is in '{seen[index]}' already")
            seen[index] = part
    if not seen:
        raise FtcotError(f"{path}: there is no question in it")
    parts = {part: _sorted(np.array(raw.get(part, []), np.int64)) for part in _PARTS}
    return Split(**parts)


def carve_validation(split: Split, questions: Mapping[int, Question], size: int, seed: int) -> Split:
    """Moves training questions to validation, questions of equal text together.

    Args:
      split: without a validation part.
      questions: by sample index.
      size: questions to move; a little more where equal texts must stay together.
      seed: of the choice.

    Raises:
      UsageError: nothing would be left to train on.
    """
    if size >= len(split.train):
        raise UsageError(f"task.validation={size} leaves nothing of {len(split.train)} training questions")
    groups: dict[str, list[int]] = {}
    for index in split.train:
        text = plain_text(questions[index].question) if index in questions else str(index)
        groups.setdefault(text, []).append(index)
    members, moved = list(groups.values()), list[int]()
    for place in np.random.RandomState(seed).permutation(len(members)):
        if len(moved) >= size:
            break
        moved.extend(members[place])
    return Split(_sorted(np.array(sorted(set(split.train) - set(moved)))), split.test, _sorted(np.array(moved)))


_PARTS = ("train", "test", "validation")


def _sorted(indices: np.ndarray | Sequence[int]) -> tuple[int, ...]:
    return tuple(sorted(int(index) for index in indices))
