"""The authors' completion files: lossless, and every bad row named."""

from __future__ import annotations

import dataclasses
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from ftcot_jax.errors import FtcotError, UsageError
from ftcot_jax.tasks.load import load_task
from ftcot_jax.tasks.question import Question
from ftcot_jax.tasks.settings import TaskSettings
from ftcot_jax.teacher.completion import (
    Completion,
    StoredCompletions,
    import_completions,
    read_completions,
    write_completions,
)

ROW = Completion(3, 0, "How many?", "7", "Q", " 3 + 4", "stop", "P", " 7 → {x}", None)
QUESTIONS = {3: Question(3, "How many?", "7")}


def write(path: Path, **changes: Any) -> Path:
    row = ROW.row() | changes
    path.write_text(json.dumps({"metadata": {"base_model": "m"}, "data": {"3": [row]}}))
    return path


def test_round_trip(tmp_path: Path) -> None:
    rows = [ROW, dataclasses.replace(ROW, completion_index=1, reasoning_prompt=None, reasoning_completion=None)]
    write_completions(tmp_path / "c.json", {"base_model": "m", "epoch": None}, rows)
    back = read_completions(tmp_path / "c.json")
    assert back.completions == rows
    assert back.metadata == {"base_model": "m", "epoch": None}
    assert [file.name for file in tmp_path.iterdir()] == ["c.json"]


def test_what_the_authors_local_students_wrote_and_what_others_add_is_kept(tmp_path: Path) -> None:
    row = {
        "sample_index": 3,
        "completion_index": 0,
        "question": "q",
        "answer": "7",
        "prompt": "p",
        "completion": "\ud800",
    }
    content = {"metadata": {}, "data": {"3": [row | {"note": [1]}], "5": [row | {"sample_index": 5}]}}
    (tmp_path / "c.json").write_text(json.dumps(content))
    file = read_completions(tmp_path / "c.json")
    assert file.completions[0].finish_reason is None
    write_completions(tmp_path / "d.json", file.metadata, file.completions)
    assert json.loads((tmp_path / "d.json").read_text()) == content


def test_a_file_is_read_in_order_whatever_its_own(tmp_path: Path) -> None:
    rows = [dataclasses.replace(ROW, sample_index=s, completion_index=c) for s in (2, 10, -1, 0) for c in (1, 0)]
    data = {str(s): [row.row() for row in rows if row.sample_index == s] for s in (2, 10, -1, 0)}
    text = json.dumps({"data": data, "metadata": {"base_model": "é"}, "more": [1.5]}, ensure_ascii=False)
    (tmp_path / "c.json").write_bytes(b"\xef\xbb\xbf" + text.encode())
    stored = StoredCompletions(tmp_path / "c.json")
    assert (stored.metadata, len(stored)) == ({"base_model": "é"}, 8)
    for _ in range(2):
        found = [(row.sample_index, row.completion_index) for row in stored]
        assert found == [(s, c) for s in (-1, 0, 2, 10) for c in (0, 1)]
    assert [(row.sample_index, row.completion_index) for row in stored.of(10)] == [(10, 0), (10, 1)]
    assert stored.of(1) == stored.of(11) == stored.of(-2) == []
    written = write_completions(tmp_path / "d.json", stored.metadata, stored)
    assert written == (4, 8)
    assert list(StoredCompletions(tmp_path / "d.json")) == list(stored)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"data": {"3": [], "3": []}}', r"from line 1: '3' is there twice"),
        ('{"data": {}, "data": {}}', r"'data' is there twice"),
        ('{"data": {},\n"metadata": {"a": 1, "a": 1}}', r"'a' is there twice"),
        ('{"data": {},\n}', r"line 2: not JSON"),
        ('{"data": {}}\n\n[]', r"line 3: not JSON"),
        ('{"data": []}', "not a completion file; it needs"),
        ('{"metadata": {}}', "not a completion file; it needs"),
        ('{"data": {}, "metadata": 3}', "'metadata' is '3', not an object"),
        ('{"data": {}, "metadata": {"prediction_template": "x"}}', "prediction_template is 'x'; it can be"),
        ('{"data": {"3": {}}}', r"data\['3'\]: not a list of rows"),
        ('{"data": {"03": [{}]}}', r"data\['03'\], row 0: 'sample_index' is missing"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_wrong_with_a_file(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(FtcotError, match=message):
        read_completions(tmp_path / "c.json")


def test_completions_are_not_held(tmp_path: Path) -> None:
    rows = (dataclasses.replace(ROW, sample_index=n, completion="x" * 5000, extra={"n": [n]}) for n in range(1000))
    tracemalloc.start()
    write_completions(tmp_path / "c.json", {}, rows)
    assert sum(len(row.completion) for row in StoredCompletions(tmp_path / "c.json")) == 5_000_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000  # of 5.5 MB


def test_every_published_file_reads_back_equal(shared: Path, tmp_path: Path) -> None:
    files = sorted((shared / "data/completions").rglob("D_*arith.json"))
    assert len(files) == 2
    for file in files:
        data = load_task(TaskSettings(key="multiarith", mirror=str(shared / "data/upstream")))
        rows = import_completions(file, data.questions)
        assert len(rows) >= 600
        write_completions(tmp_path / "again.json", read_completions(file).metadata, rows)
        assert json.loads((tmp_path / "again.json").read_text()) == json.loads(file.read_text())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sample_index": 4}, r"data\['3'\], row 0: its sample_index is 4"),
        ({"completion": None}, r"row 0: 'completion' is None, not of the right kind"),
        ({"completion_index": "0"}, r"row 0: 'completion_index' is '0'"),
        ({"question": "Other?"}, r"sample_index 3, completion_index 0: its question is 'Other\?'"),
    ],
)
def test_bad_rows_are_named(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(FtcotError, match=message):
        import_completions(write(tmp_path / "c.json", **changes), QUESTIONS)


def test_missing_fields_files_questions_and_bad_json(tmp_path: Path) -> None:
    with pytest.raises(FtcotError, match=r"c\.json, sample_index 3, completion_index 0: the task has no question 3"):
        import_completions(write(tmp_path / "c.json"), {})
    row = ROW.row()
    del row["prompt"]
    (tmp_path / "c.json").write_text(json.dumps({"data": {"3": [row]}}))
    with pytest.raises(FtcotError, match="row 0: 'prompt' is missing"):
        read_completions(tmp_path / "c.json")
    (tmp_path / "c.json").write_text(json.dumps({"data": {"3": [ROW.row()] * 2}}))
    with pytest.raises(FtcotError, match="row 1: completion_index 0 is there twice"):
        read_completions(tmp_path / "c.json")
    (tmp_path / "c.json").write_text('{"data": {\n "3": [')
    with pytest.raises(FtcotError, match=r"c\.json, line 2: not JSON"):
        read_completions(tmp_path / "c.json")
    (tmp_path / "c.json").write_text("[]")
    with pytest.raises(FtcotError, match="not a completion file"):
        read_completions(tmp_path / "c.json")
    with pytest.raises(UsageError, match=r"nowhere\.json: cannot be read"):
        read_completions(tmp_path / "nowhere.json")
