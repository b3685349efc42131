"""Splits: the paper's rules, the authors' files, and a validation part that shares no question with training."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftcot_jax.errors import FtcotError, UsageError
from ftcot_jax.tasks.load import load_task
from ftcot_jax.tasks.overlap import find_overlap
from ftcot_jax.tasks.question import Question
from ftcot_jax.tasks.registry import TASKS
from ftcot_jax.tasks.settings import TaskSettings
from ftcot_jax.tasks.splits import carve_validation, default_split, read_split, template_split, without_names_and_digits
from ftcot_jax.tasks.task import Split, TaskData


def some_questions(*texts: str) -> dict[int, Question]:
    return {index: Question(index, text, "1") for index, text in enumerate(texts)}


def test_default_split_is_seventy_percent_and_disjoint() -> None:
    split = default_split(TASKS["svamp"], 10)
    order = np.random.RandomState(0).permutation(10).tolist()
    assert split.train == tuple(sorted(order[:7]))
    assert split.test == tuple(sorted(order[7:]))
    assert default_split(TASKS["gsm8k"], 7475).test == (7473, 7474)


def test_template_split_keeps_templates_whole() -> None:
    texts = [f"{name} has {n} apples and {kind}." for kind in "abcdefghij" for n, name in enumerate(("Ann", "Bob"))]
    split = template_split(without_names_and_digits, some_questions(*texts))
    assert len(split.train) == 14
    assert set(split.train) | set(split.test) == set(range(20))
    assert {index // 2 for index in split.train}.isdisjoint(index // 2 for index in split.test)


def test_template_splits_equal_the_authors(shared: Path) -> None:
    mirror = str(shared / "data/upstream")
    split = load_task(TaskSettings(key="multiarith", split="template", mirror=mirror)).split
    theirs = json.loads(next((shared / "data/upstream").rglob("multiarith__template.json")).read_text())
    assert (list(split.train), list(split.test)) == (theirs["train"], theirs["test"])
    split = load_task(TaskSettings(key="date_understanding", split="template", mirror=mirror)).split
    assert (len(split.train), len(split.test)) == (261, 108)
    assert {index // 9 for index in split.train}.isdisjoint(index // 9 for index in split.test)
    # of the authors' date_understanding__template.json: its test indices, joined by commas
    digest = hashlib.sha256(",".join(map(str, split.test)).encode()).hexdigest()
    assert digest[:16] == "bfb0f5dfff50ed9f"


@pytest.mark.parametrize(
    ("key", "split", "test", "same_text", "same_template", "duplicates"),
    [
        ("multiarith", "default", 180, 5, 180, 20),
        ("multiarith", "template", 187, 0, 0, 20),
        ("date_understanding", "default", 111, 0, 111, 0),
        ("date_understanding", "template", 108, 0, 0, 0),
        ("strategy_qa", "default", 687, 1, None, 1),
    ],
)
def test_overlap_is_what_the_paper_page_says(
    key: str, split: str, test: int, same_text: int, same_template: int | None, duplicates: int, shared: Path
) -> None:
    found = find_overlap(load_task(TaskSettings(key=key, split=split, mirror=str(shared / "data/upstream"))))
    assert (found.test, len(found.same_text), found.duplicates) == (test, same_text, duplicates)
    assert same_template is None or len(found.same_template) == same_template


def test_overlap_on_a_small_task() -> None:
    questions = some_questions("Ann has 3 apples.", "Bob has 7 apples.", "ann  has 3 apples.", "Two pears?", "A plum?")
    found = find_overlap(TaskData(TASKS["multiarith"], questions, Split((0, 3), (1, 2, 4))))
    assert (found.test, found.same_text, found.train_same_text) == (3, (2,), (0,))
    assert (found.same_template, found.train_same_template, found.duplicates) == ((1,), (0,), 1)


def test_no_template_split_names_those_that_have_one() -> None:
    data = {"key": "weekday_tracking", "split": "template"}
    with pytest.raises(UsageError, match="weekday_tracking has no template-wise split; multiarith, date_understanding"):
        load_task(TaskSettings(**data))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"'tempate' is none of 'default', 'template' and a \.json file"):
        load_task(TaskSettings(key="weekday_tracking", split="tempate"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[1]", "an object with lists 'train' and 'test'"),
        ('{"train": [0], "test": [1], "dev": [2]}', "an object with lists"),
        ('{"train": [0], "test": [1, 9]}', r"test\[1\] is 9; the task has questions 0 to 3"),
        ('{"train": [0, true], "test": []}', r"train\[1\] is True"),
        ('{"train": [0, 1], "test": [1]}', r"test\[0\]: question 1 is in 'train' already"),
    ],
)
def test_a_bad_split_file_is_one_line(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "split.json"
    file.write_text(content)
    with pytest.raises(FtcotError, match=message):
        read_split(str(file), some_questions("a", "b", "c", "d"))
    with pytest.raises(UsageError, match=r"nowhere\.json: cannot be read"):
        read_split(str(tmp_path / "nowhere.json"), some_questions("a"))


def test_a_split_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "split.json"
    file.write_text('{"train": [3, 0], "test": [1], "validation": [2]}')
    settings = TaskSettings(key="weekday_tracking", train_questions=2, test_questions=2, split=str(file))
    assert load_task(settings).split == Split((0, 3), (1,), (2,))


@given(size=st.integers(1, 8), seed=st.integers(0, 5))
def test_validation_is_carved_from_train_by_question(size: int, seed: int) -> None:
    texts = ["same", "Same ", *"abcdefgh", "t1", "t2"]
    split = carve_validation(Split(tuple(range(10)), (10, 11)), some_questions(*texts), size, seed)
    assert split.test == (10, 11)
    assert sorted({*split.train, *split.validation}) == list(range(10))
    assert len(split.train) + len(split.validation) == 10
    assert size <= len(split.validation) <= size + 1
    assert (0 in split.validation) == (1 in split.validation)


def test_validation_leaves_something_to_train_on() -> None:
    settings = TaskSettings(key="weekday_tracking", train_questions=5, test_questions=2, validation=2)
    assert [len(part) for part in (load_task(settings).split.train, load_task(settings).split.validation)] == [3, 2]
    with pytest.raises(UsageError, match=r"task\.validation=5 leaves nothing of 5 training questions"):
        load_task(settings.model_copy(update={"validation": 5}))
