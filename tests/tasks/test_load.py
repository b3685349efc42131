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
from ftcot_jax.tasks.load import default_split, load_task
from ftcot_jax.tasks.readers import examples, gsm8k, math_word_problems, multiarith, svamp
from ftcot_jax.tasks.registry import TASKS, get_task
from ftcot_jax.tasks.settings import TaskSettings

UPSTREAM = sorted(task.key for task in TASKS.values() if task.sources)


@pytest.mark.parametrize("key", UPSTREAM)
def test_every_question_and_split_equals_the_authors(key: str, shared: Path) -> None:
    data = load_task(TaskSettings(key=key, mirror=str(shared / "data/upstream")))
    expected = json.loads((shared / "data/expected_samples.json").read_text())[key]
    assert len(data.questions) == expected["count"]
    for sample in expected["samples"]:
        assert dataclasses.asdict(data.questions[sample["sample_index"]]) == sample
    split_file = next((shared / "data/upstream/itsnamgyu").rglob(f"{key}__default.json"))
    split = json.loads(split_file.read_text())
    assert list(data.split.train) == split["train"]
    assert list(data.split.test) == split["test"]
    published = shared / f"data/completions/B_text-davinci-002__C_zs_cot/D_{key}.json"
    rows = [row for rows in json.loads(published.read_text())["data"].values() for row in rows]
    assert len(rows) > 300
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


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [
        (svamp, "[{", "f.json: not JSON"),
        (
            svamp,
            '[{"Body": "a", "Question": "b", "Answer": 1}, {"Body": "a"}]',
            "f.json, row 1: not of the expected form",
        ),
        (gsm8k, '{"question": "q", "answer": "#### 1"}\n{"quest', "f.json, line 2: not JSON"),
        (gsm8k, '{"question": "q", "answer": "no mark"}', "f.json, row 0: not of the expected form"),
        (examples, "[]", "f.json: no 'examples' in it"),
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


def test_default_split_is_seventy_percent_and_disjoint() -> None:
    split = default_split(TASKS["svamp"], 10)
    order = np.random.RandomState(0).permutation(10).tolist()
    assert split.train == tuple(sorted(order[:7]))
    assert split.test == tuple(sorted(order[7:]))
    assert default_split(TASKS["gsm8k"], 7475).test == (7473, 7474)
