"""ftcot study: a page from files, a folder or a recipe, and one clear line where there is nothing to read."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from ftcot_jax.cli import main
from ftcot_jax.teacher.completion import Completion, write_completions
from tests.evaluation.test_study import embedded


def ftcot(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    """Runs a command in this process; returns what it printed, or its last line of complaint."""
    monkeypatch.setattr(sys, "argv", ["ftcot", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert (ended.value.code or 0) == code, said.err
    return said.out if code == 0 else said.err.splitlines()[-1]


def write(file: Path, student: str, answers: list[str], template: str | None = "zs_cot") -> None:
    rows = [
        Completion(
            index, 0, f"How many is {index}?", str(index), "p", f"{index} + 1 = {index}.", "stop", "p", text, "stop"
        )
        for index, text in enumerate(answers)
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    write_completions(file, {"base_model": student, "dataset_key": "multiarith", "prediction_template": template}, rows)


def test_files_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "runs/one.json", "gpt2", ["0", "1", "9"])
    write(tmp_path / "runs/two.json", "gpt2", ["0", "8", "9"])
    write(tmp_path / "three.json", "t5", ["0", "1", "2"])
    to = tmp_path / "pages/study.html"
    said = ftcot(monkeypatch, capsys, "study", str(tmp_path / "runs"), str(tmp_path / "three.json"), "--to", str(to))
    assert said.splitlines()[0].startswith(f"{to}: 9 texts")
    assert "  arithmetic slip: 9" in said
    assert "  right answer, wrong equation: 6" in said
    data = embedded(to.read_text())
    assert data["title"] == "runs, three"
    assert data["students"] == ["gpt2", "gpt2 (2)", "t5"]
    assert [row[6] for row in data["texts"]] == [True, True, False, True, False, False, True, True, True]
    words = ("study", str(tmp_path / "runs"), "--to", str(to), "--most-texts", "2")
    assert "4 texts are left out; --most-texts 6 takes all" in ftcot(monkeypatch, capsys, *words)


def test_bad_sources_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    write(tmp_path / "strange.json", "m", ["1"])
    content = json.loads((tmp_path / "strange.json").read_text())
    content["metadata"]["dataset_key"] = "sums"
    (tmp_path / "strange.json").write_text(json.dumps(content))
    (tmp_path / "none.json").write_text('{"metadata": {}, "data": {}}')
    for source, code, message in [
        ("nowhere", 2, "there is no such recipe, folder or completion file"),
        ("empty", 2, "no recipe and no completion file in this folder"),
        ("strange.json", 2, "no task is called 'sums'"),
        ("none.json", 1, "its metadata have no 'dataset_key'; say --task"),
    ]:
        assert message in ftcot(monkeypatch, capsys, "study", str(tmp_path / source), code=code)
    file = str(tmp_path / "strange.json")
    assert "nothing for 'a.b=1' to change" in ftcot(monkeypatch, capsys, "study", file, "a.b=1", code=2)
    assert "name a recipe" in ftcot(monkeypatch, capsys, "study", "a.b=1", code=2)
    assert "no completions yet" in ftcot(
        monkeypatch, capsys, "study", str(tmp_path / "none.json"), "--task", "svamp", code=1
    )
    to = str(tmp_path / "s.html")
    assert "1 texts" in ftcot(monkeypatch, capsys, "study", file, "--task", "multiarith", "--to", to)


def test_published_completions_make_a_page(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    to = tmp_path / "all.html"
    folder = shared / "data/completions/B_text-davinci-002__C_zs_cot"
    said = ftcot(monkeypatch, capsys, "study", str(folder), "--to", str(to))
    data = embedded(to.read_text())
    assert (len(data["texts"]), len(data["datasets"]), len(data["students"])) == (9706, 12, 1)
    assert "arithmetic slip: 9" in said  # ninety-odd
