"""Questions exactly as the reference has them; damaged or missing files named in one line."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from ftcot_jax.errors import FtcotError, UsageError
from ftcot_jax.tasks import registry
from ftcot_jax.tasks.load import load_task
from ftcot_jax.tasks.readers import (
    aqua,
    commonsense_qa,
    date_understanding,
    examples,
    gsm8k,
    math_word_problems,
    multiarith,
    strategy_qa,
    svamp,
    tracking_shuffled_objects,
)
from ftcot_jax.tasks.registry import TASKS, get_task
from ftcot_jax.tasks.settings import TaskSettings

UPSTREAM = sorted(task.key for task in TASKS.values() if task.sources)


@pytest.mark.parametrize("key", UPSTREAM)
def test_every_question_and_split_equals_the_authors(key: str, shared: Path) -> None:
    data = load_task(TaskSettings(key=key, mirror=str(shared / "data/upstream")))
    expected = json.loads((shared / "data/expected_samples.json").read_text()).get(key, {"count": 254, "samples": []})
    assert len(data.questions) == expected["count"]
    assert len(expected["samples"]) == 0 if key == "aqua" else len(expected["samples"]) >= 10
    for sample in expected["samples"]:
        assert dataclasses.asdict(data.questions[sample["sample_index"]]) == sample
    split_file = next((shared / "data/upstream/itsnamgyu").rglob(f"{key}__default.json"))
    split = json.loads(split_file.read_text())
    assert list(data.split.train) == split["train"]
    assert list(data.split.test) == split["test"]
    published = shared / f"data/completions/B_text-davinci-002__C_zs_cot/D_{key}.json"
    rows = [row for rows in json.loads(published.read_text())["data"].values() for row in rows]
    assert len(rows) >= 254
    for row in rows:
        question = data.questions[row["sample_index"]]
        assert (question.question, question.answer) == (row["question"], row["answer"])


def test_readers_on_small_files() -> None:
    rows = json.dumps([{"sQuestion": " How many? ", "lSolutions": [43.0]}, {"sQuestion": "b ", "lSolutions": ["7"]}])
    assert math_word_problems(rows, "f") == [("How many?", "43.0"), ("b", "7")]
    assert multiarith(rows, "f") == [("How many?", "43"), ("b", "7")]
    assert svamp(json.dumps([{"Body": "A. ", "Question": "B?", "Answer": 51.0}]), "f") == [("A. B?", "51.0")]
    assert gsm8k('{"question": "q ", "answer": "x\\n#### 1,200"}\n', "f") == [("q", "1,200")]
    assert examples('{"examples": [{"question": "q", "answer": "yes"}]}', "f") == [("q", "yes")]


def test_multiple_choice_readers_on_small_files() -> None:
    options = ["A)1 km", "B) 2 km", "C)3", "D)4", "E)5"]
    row = json.dumps({"question": " How far? ", "options": options, "correct": "B"})
    text = "How far? Answer choices: (A) 1 km, (B) 2 km, (C) 3, (D) 4, (E) 5."
    assert aqua(row, "f") == [(text, "B")]
    choices = [{"label": "A", "text": "ignore"}, {"label": "B", "text": "avoid"}]
    row = json.dumps({"answerKey": "B", "question": {"stem": "What? ", "choices": choices}})
    assert commonsense_qa(row, "f") == [("What? Answer choices: (A) ignore, (B) avoid.", "B")]
    rows = json.dumps({"examples": [{"input": "Is it? ", "target_scores": {"Yes": 0, "No": 1}}]})
    assert strategy_qa(rows, "f") == [("Is it?", "No")]
    rows = json.dumps({"examples": [{"input": "Bob has the ", "target_scores": {"red ball.": 0, "blue ball.": 1}}]})
    text = "Bob has the \nWhich choice is true? Answer choices: (A) red ball, (B) blue ball."
    assert tracking_shuffled_objects(rows, "f") == [(text, "B")]


def test_date_choices_are_shuffled_by_one_stream_over_the_file() -> None:
    rows = [{"input": f"q{n} ", "target_scores": {"right": 1, "wrong": 0, "worse": 0}} for n in range(4)]
    stream = np.random.RandomState(0)
    for text, answer in date_understanding(json.dumps({"examples": rows}), "f"):
        places = stream.permutation(3)
        choices = [("right", "wrong", "worse")[list(places).index(place)] for place in range(3)]
        lettered = ", ".join(f"({letter}) {choice}" for letter, choice in zip("ABC", choices, strict=True))
        assert text.endswith(f"\nWhich choice is true? Answer choices: {lettered}.")
        assert answer == "ABC"[places[0]]


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (svamp, "[{", "f.json, line 1: not JSON"),
        (
            svamp,
            '[{"Body": "a", "Question": "b", "Answer": 1}, {"Body": "a"}]',
            "f.json, row 1: not of the expected form",
        ),
        (gsm8k, '{"question": "q", "answer": "#### 1"}\n{"quest', "f.json, line 2: not JSON"),
        (gsm8k, '{"question": "q", "answer": "no mark"}', "f.json, row 0: not of the expected form"),
        (examples, "[]", "f.json: no list of 'examples' in it"),
        (
            aqua,
            '{"question": "q", "options": ["A)1", "C)2"], "correct": "A"}',
            "row 0: not of the expected form .*A\\) to E",
        ),
        (strategy_qa, '{"examples": [{"input": "q", "target_scores": {"No": 1}}]}', "row 0: not of the expected form"),
        (date_understanding, '{"examples": [{"input": "q", "target_scores": {"a": 0}}]}', "row 0: not of the expected"),
    ],
)
def test_malformed_rows_are_named(read, text: str, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(FtcotError, match=message):
        read(text, "f.json")


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mirror with a three-question stand-in for Coin Flip, pinned in the registry for the test."""
    content = json.dumps({"examples": [{"question": f"q{n}", "answer": "yes"} for n in range(3)]})
    task = TASKS["coin_flip"]
    source = dataclasses.replace(task.sources[0], sha256=hashlib.sha256(content.encode()).hexdigest())
    monkeypatch.setitem(registry.TASKS, "coin_flip", dataclasses.replace(task, size=3, sources=(source,)))
    file = tmp_path / source.place
    file.parent.mkdir(parents=True)
    file.write_text(content)
    return tmp_path


def test_mirror_by_setting_and_by_environment(mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    by_setting = load_task(TaskSettings(key="coin_flip", mirror=str(mirror)))
    assert [question.question for question in by_setting.questions.values()] == ["q0", "q1", "q2"]
    monkeypatch.setenv("FTCOT_MIRROR", str(mirror))
    assert load_task(TaskSettings(key="coin_flip")).questions == by_setting.questions


def test_altered_and_missing_files_are_named(mirror: Path) -> None:
    file = next(mirror.rglob("coin_flip.json"))
    file.write_text(file.read_text() + " ")
    with pytest.raises(FtcotError, match=r"coin_flip\.json: altered or truncated \(SHA-256 [0-9a-f]{16}"):
        load_task(TaskSettings(key="coin_flip", mirror=str(mirror)))
    with pytest.raises(FtcotError, match=r"nowhere/.*coin_flip\.json: not in the mirror"):
        load_task(TaskSettings(key="coin_flip", mirror=str(mirror / "nowhere")))


def test_download_without_network_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTCOT_CACHE", str(tmp_path))
    monkeypatch.delenv("FTCOT_MIRROR", raising=False)
    monkeypatch.setattr("ftcot_jax.tasks.fetch.HOST", "http://127.0.0.1:9")
    with pytest.raises(FtcotError, match=r"SVAMP\.json: cannot be downloaded .*; use --mirror DIR or set FTCOT_MIRROR"):
        load_task(TaskSettings(key="svamp"))
    assert not list(tmp_path.rglob("*.json"))


def test_download_fills_the_cache_once(mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTCOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FTCOT_MIRROR", raising=False)
    monkeypatch.setattr("ftcot_jax.tasks.fetch.HOST", mirror.as_uri())
    first = load_task(TaskSettings(key="coin_flip"))
    monkeypatch.setattr("ftcot_jax.tasks.fetch.HOST", "http://127.0.0.1:9")  # the second load must not ask again
    assert load_task(TaskSettings(key="coin_flip")).questions == first.questions


def test_unknown_task_names_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"no task is called 'multiarth' \(did you mean 'multiarith'\?\)"):
        get_task("multiarth")


def test_a_file_the_task_can_do_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = json.dumps({"question": "q", "options": [f"{letter}){letter}" for letter in "ABCDE"], "correct": "C"})
    task = TASKS["aqua"]
    sources = (
        dataclasses.replace(task.sources[0], rows=3),
        dataclasses.replace(task.sources[1], sha256=hashlib.sha256(row.encode()).hexdigest()),
    )
    small = dataclasses.replace(task, size=4, train_size=3, train_sample=2, sources=sources)
    monkeypatch.setitem(registry.TASKS, "aqua", small)
    test_file = tmp_path / sources[1].place
    test_file.parent.mkdir(parents=True)
    test_file.write_text(row)
    settings = TaskSettings(key="aqua", mirror=str(tmp_path))
    data = load_task(settings)
    assert (list(data.questions), data.questions[3].answer) == ([3], "C")
    assert data.split.test == (3,)
    assert data.split.train == tuple(sorted(np.random.RandomState(0).permutation(3)[:2].tolist()))
    assert data.missing is not None
    assert data.missing.startswith("questions 0 to 2: ")
    with pytest.raises(
        FtcotError, match=r"aqua: question \d is not there: questions 0 to 2: .*train\.json: not in the"
    ):
        data.of(data.split.train)
    train_file = tmp_path / sources[0].place
    train_file.parent.mkdir(parents=True)
    train_file.write_text(f"{row}\n{row}\n")
    with pytest.raises(FtcotError, match=r"train\.json: 2 questions, not 3; delete it"):
        load_task(settings)
    train_file.write_text(f"{row}\n" * 3)
    assert (len(load_task(settings).questions), load_task(settings).missing) == (4, None)
