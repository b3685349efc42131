"""The authors' dataset JSON, there and back without loss."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ftcot_jax.errors import FtcotError, UsageError
from ftcot_jax.tasks.dataset_file import read_dataset, write_dataset, write_split
from ftcot_jax.tasks.question import Question
from ftcot_jax.tasks.task import Split

ROW = {"sample_index": 0, "question": "q é\u2028?", "answer": "1", "rationale": "because"}


def test_round_trip_keeps_everything(tmp_path: Path) -> None:
    content = {"metadata": {"dataset_key": "x", "note": [1, None]}, "data": [ROW, ROW | {"sample_index": 7}]}
    (tmp_path / "in.json").write_text(json.dumps(content))
    read = read_dataset(tmp_path / "in.json")
    assert read.questions[7] == Question(7, "q é\u2028?", "1")
    write_dataset(tmp_path / "out.json", read)
    assert json.loads((tmp_path / "out.json").read_text()) == content
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.json", "out.json"]


def test_splits_are_written_as_the_authors_write_them(tmp_path: Path) -> None:
    write_split(tmp_path / "s.json", Split((0, 2), (1,)))
    assert json.loads((tmp_path / "s.json").read_text()) == {"train": [0, 2], "test": [1]}
    write_split(tmp_path / "s.json", Split((0,), (1,), (2,)))
    assert json.loads((tmp_path / "s.json").read_text()) == {"train": [0], "test": [1], "validation": [2]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "line 1: not JSON"),
        ("[]", "not a dataset"),
        ('{"data": []}', "not a dataset"),
        (json.dumps({"data": [ROW, ROW]}), r"data\[1\]: sample_index 0 is there twice"),
        (json.dumps({"data": [ROW | {"answer": 3}]}), r"data\[0\]: 'answer' is 3, not of the right kind"),
        (json.dumps({"data": [ROW | {"sample_index": True}]}), r"data\[0\]: 'sample_index' is True"),
        (json.dumps({"data": ["q"]}), r"data\[0\]: not an object"),
    ],
)
def test_a_bad_file_is_named(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text(content)
    with pytest.raises(FtcotError, match=message):
        read_dataset(tmp_path / "in.json")
    with pytest.raises(UsageError, match="cannot be read"):
        read_dataset(tmp_path / "none.json")
