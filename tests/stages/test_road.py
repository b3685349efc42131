"""The whole road on a tiny recipe: every stage, reuse, kills, two runs at once, bad input."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ftcot_jax.cli import main

ROOT = Path(__file__).parents[2]
TINY = """
name: tiny
task: {key: weekday_tracking, train_questions: 40, test_questions: 12}
teacher: {loopback: weekday_tracking, diversity: 3}
student:
  scratch: {model_type: llama, hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1, num_attention_heads: 2,
            num_key_value_heads: 2, max_position_embeddings: 96, tie_word_embeddings: true}
train: {steps: 12, batch: {examples: 4}, learning_rate: 1.0e-2, checkpoints: {steps: 3}}
evaluate: {max_length: 48}
sweep:
  axes:
    - {arm: [answers, cot], template: [ft_token, ft_cot_token]}
    - {seed: [1, 2]}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    file = tmp_path / "tiny.yaml"
    file.write_text(TINY)
    return file


def ftcot(*words: str, check: bool = True, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from ftcot_jax.cli import main; main()", *words]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ | (env or {}), timeout=280
    )
    if check:
        assert done.returncode == 0, done.stderr
    return done


def in_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int, *words: str) -> str:
    """Runs a command without a process of its own; returns what it said on standard error."""
    monkeypatch.setattr(sys, "argv", ["ftcot", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert ended.value.code == code, said
    return said


def predictions(out: Path) -> dict[str, Any]:
    """What each trial's student wrote, by trial name."""
    trials = json.loads((out / "report" / "trials.json").read_text())
    return {trial["name"]: (trial["outcomes"], trial["training"]["loss_last"]) for trial in trials}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("road")
    (folder / "tiny.yaml").write_text(TINY)
    ftcot("run", str(folder / "tiny.yaml"), "--out", str(folder / "out"))
    return folder / "out"


def test_run_leaves_every_artefact_and_a_report(undisturbed: Path) -> None:
    kinds = sorted(re.sub(r"-[0-9a-f]{12}$", "", path.name) for path in (undisturbed / "artifacts").iterdir())
    counts = {kind: kinds.count(kind) for kind in set(kinds) if not kind.startswith(".")}
    assert counts == {"completions": 2, "pairs": 4, "records": 4, "student": 4, "scores": 4}
    text = (undisturbed / "report" / "report.md").read_text()
    assert "| answers |" in text
    assert "| cot |" in text
    assert len((undisturbed / "report" / "trials.csv").read_text().splitlines()) == 5
    student = next((undisturbed / "artifacts").glob("student-*"))
    rows = [json.loads(line) for line in (student / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(12))
    assert (student / "student" / "model.safetensors").is_file()
    written = json.loads(next((undisturbed / "artifacts").glob("scores-*/predictions.json")).read_text())
    assert len(written["data"]) == 12
    assert written["metadata"]["dataset_key"] == "weekday_tracking"
    assert any((undisturbed / "tensorboard").rglob("events*"))
    assert "train_questions: 40" in (undisturbed / "tiny.yaml").read_text()


def test_a_second_run_reuses_everything_and_says_so(undisturbed: Path) -> None:
    recipe = undisturbed.parent / "tiny.yaml"
    before = {path: path.stat().st_mtime_ns for path in (undisturbed / "artifacts").iterdir()}
    again = ftcot("run", str(recipe), "--out", str(undisturbed))
    assert "4 of 4 trials are done already, and stay as they are" in again.stderr
    assert "made" not in again.stderr
    after = {path: path.stat().st_mtime_ns for path in (undisturbed / "artifacts").iterdir()}
    assert {path.name for path in after} == {path.name for path in before}


def test_stage_by_stage_equals_the_whole_road(
    undisturbed: Path,
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = str(tmp_path / "out")
    early = in_process(monkeypatch, capsys, 1, "evaluate", str(recipe), "--out", out)
    assert "has not been trained yet; run `ftcot train`" in early
    for stage in ("sample", "curate", "tokenize", "train", "evaluate", "report"):
        in_process(monkeypatch, capsys, 0, stage, str(recipe), "--out", out)
    assert predictions(tmp_path / "out") == predictions(undisturbed)


@pytest.mark.slow
def test_kill_dash_nine_anywhere(undisturbed: Path, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-c", "from ftcot_jax.cli import main; main()", "run", str(recipe), "--out", str(out)]
    killed = 0
    for seconds in (4.0, 6.0, 8.0, 11.0, 14.0):
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            killed += 1
    assert killed >= 2
    ftcot("run", str(recipe), "--out", str(out))
    assert predictions(out) == predictions(undisturbed)
    assert not list((out / "artifacts").glob(".partial-*"))


@pytest.mark.slow
def test_two_runs_at_once_share_the_work(undisturbed: Path, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-c", "from ftcot_jax.cli import main; main()", "run", str(recipe), "--out", str(out)]
    running = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    texts = [process.communicate(timeout=280)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], texts
    assert sum(text.count("student: made") for text in texts) == 4
    assert predictions(out) == predictions(undisturbed)


@pytest.mark.slow  # tests/training/test_cloud_notice.py holds the fast suite to the same end
def test_sigterm_saves_exits_42_and_goes_on(undisturbed: Path, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-c", "from ftcot_jax.cli import main; main()", "run", str(recipe), "--out", str(out)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    deadline = time.monotonic() + 200
    while not list(out.glob("pools/*/metrics/*.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.terminate()
    said = process.communicate(timeout=200)[1]
    assert process.returncode == 42, said
    assert said.splitlines()[-1] == "ftcot: stopped by SIGTERM and saved; run the same command to go on"
    ftcot("run", str(recipe), "--out", str(out))
    assert predictions(out) == predictions(undisturbed)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["train.stepz=1"], 2, r"unknown key 'train\.stepz' \(did you mean 'steps'\?\)"),
        (["task.key=weekday"], 2, r"no task is called 'weekday' \(did you mean 'weekday_tracking'\?\)"),
        (["template=ft_cot", "sweep={}"], 2, r"template: none is called 'ft_cot'"),
        (["teacher=null"], 2, r"template ft_cot_token learns from rationales; give a teacher: section"),
        (["teacher={import: nowhere.json}"], 2, r"teacher\.import: nowhere\.json: cannot be read"),
        (["teacher.slip_rate=1", "sweep={}"], 1, r"0 of 120 rationales are right, for 40 training questions"),
        (["student.scratch.max_position_embeddings=20"], 1, r"question 0.* has \d+ tokens and the limit is 20"),
        (["student.scratch.max_position_embeddings=8"], 1, r"question 0 has \d+ tokens and the student's limit is 8"),
        (["student={checkpoint: ./nowhere}", "sweep={}"], 2, r"student\.checkpoint: there is no folder \./nowhere"),
        (["mesh.data=64"], 2, r"mesh: .* does not fit the \d+ devices here"),
        (["teacher={endpoint: 'http://127.0.0.1:9/v1', model: m}"], 1, r"http://127.0.0.1:9/v1 cannot be reached"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing_half_written(
    words: list[str],
    code: int,
    message: str,
    recipe: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    stage = "train" if "mesh" in words[0] else "tokenize"
    said = in_process(monkeypatch, capsys, code, stage, str(recipe), *words, "--out", str(out))
    assert re.search(message, said.splitlines()[-1]), said
    assert said.splitlines()[-1].startswith("ftcot: ")
    assert "Traceback" not in said
    whole = [path for path in out.glob("artifacts/[a-z]*") if not (path / "manifest.json").is_file()]
    assert whole == []


def test_a_folder_that_cannot_be_written_is_one_line(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    said = in_process(monkeypatch, capsys, 1, "run", str(recipe), "--out", str(tmp_path / "file" / "out"))
    assert said == f"ftcot: {tmp_path / 'file' / 'out'}: Not a directory\n"
