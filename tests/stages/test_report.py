"""ftcot report: from a run's folder or its recipe, of a run that may not be finished; it makes nothing else."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from ftcot_jax.cli import main
from ftcot_jax.stages.report import _title
from tests.evaluation.test_study import embedded
from tests.stages.test_road import TINY
from tests.sweeps.cases import grid

AXES = "{arm: [answers, cot, more], template: [ft_token, ft_cot_token, ft_cot_token], select.diversity: [null, 1, 3]}"
RECIPE = TINY.replace("{arm: [answers, cot], template: [ft_token, ft_cot_token]}", AXES)


def ftcot(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    """Runs a command in this process; returns what it printed, or its last line of complaint."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["ftcot", *words])
        with pytest.raises(SystemExit) as ended:
            main()
    said = capsys.readouterr()
    assert (ended.value.code or 0) == code, said.err
    return said.out if code == 0 else said.err.splitlines()[-1]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with a recipe and its finished run, and what the run printed."""
    folder = tmp_path_factory.mktemp("run")
    assert AXES in RECIPE
    (folder / "tiny.yaml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        said: list[str] = []
        patch.setattr("builtins.print", lambda *words, **_: said.append(" ".join(map(str, words))))
        patch.setattr(sys, "argv", ["ftcot", "run", str(folder / "tiny.yaml"), "--out", str(folder / "out")])
        with pytest.raises(SystemExit) as ended:
            main()
    assert not ended.value.code
    return folder, next(text for text in said if text.startswith("# "))


@pytest.fixture
def run(finished: tuple[Path, str], tmp_path: Path) -> Path:
    """A copy of the finished run, to take from."""
    shutil.copytree(finished[0] / "out", tmp_path / "out")
    return tmp_path / "out"


def artefacts(run: Path) -> list[str]:
    return sorted(str(path.relative_to(run)) for path in (run / "artifacts").rglob("*") if ".locks" not in path.parts)


def drop(run: Path, kind: str, name: str | None = None) -> None:
    """Removes artefacts of a kind: those of the trial of that name, or all."""
    keys = {path.name: json.loads((path / "manifest.json").read_text()) for path in run.glob(f"artifacts/{kind}-*")}
    for folder, manifest in keys.items():
        if name is None or name in json.dumps(manifest["inputs"]):
            shutil.rmtree(run / "artifacts" / folder)


def test_a_folder_and_its_recipe_give_the_runs_own_report(
    finished: tuple[Path, str], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, text = finished
    before = artefacts(run)
    shutil.rmtree(run / "report")
    of_folder = ftcot(capsys, "report", str(run))
    assert of_folder.strip() == text.split("\nseconds in each stage")[0].strip()
    assert ftcot(capsys, "report", str(folder / "tiny.yaml"), "--out", str(run)) == of_folder
    assert artefacts(run) == before
    report = run / "report"
    files = {str(path.relative_to(report)) for path in report.rglob("*") if path.is_file()}
    assert {"report.md", "report.html", "study.html", "trials.csv", "trials.json"} <= files
    assert {"accuracy_over_diversity.svg", "accuracy_over_diversity.png", "tables/methods.tex"} <= files
    assert {"tables/methods.csv", "tables/cost.csv", "accuracy_over_chip_seconds.svg"} <= files
    assert "accuracy_over_dollars.svg" not in files  # a CPU has no price
    assert (report / "report.md").read_text() == of_folder.rstrip("\n") + "\n"


def test_trials_are_described_by_their_recipes(run: Path) -> None:
    rows = json.loads((run / "report/trials.json").read_text())
    assert [(row["arm"], row["condition"]["method"], row["condition"]["diversity"]) for row in rows[::2]] == [
        ("answers", "Fine-tune", None),
        ("cot", "Fine-tune-CoT", 1),
        ("more", "Diverse reasoning", 3),
    ]
    one = rows[2]["condition"]
    assert (one["task"], one["family"], one["train_questions"]) == ("weekday_tracking", "Llama", 40)
    assert one["student"] == "llama from scratch, 3.1k"
    assert one["teacher"] == "loopback-weekday_tracking"
    assert one["settings"]["train.learning_rate"] == 0.01
    assert not any(re.search(r"^(out|sweep|name)\b|(^|\.)seed$", key) for key in one["settings"])
    for row in rows:
        training, cost = row["training"], row["cost"]
        devices = int(training["device"].split(" x ")[0])
        assert devices == 8  # tests/conftest.py
        assert training["slots"] == 1
        assert cost["train_chip_seconds"] == pytest.approx(devices * training["seconds"])
        assert cost["score_chip_seconds"] == pytest.approx(devices * row["scores"]["seconds"])
        assert cost["teacher_dollars"] == 0  # the package's own teacher is free


def test_dollars_of_devices(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = ftcot(capsys, "report", str(run), "--price", "3.6")
    assert "Dollars a device and hour: 3.6." in text
    assert "![Accuracy and dollars](accuracy_over_dollars.svg)" in text
    for row in json.loads((run / "report/trials.json").read_text()):
        assert row["cost"]["chip_hour_dollars"] == 3.6


def test_what_is_missing_is_counted_and_not_made(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ended = [json.loads(path.read_text()) for path in (run / "results").glob("*.json")]
    (one,) = (row for row in ended if row["name"] == "cot, seed=2")
    shutil.rmtree(run / "artifacts" / one["artifacts"]["scores"])
    before = artefacts(run)
    text = ftcot(capsys, "report", str(run))
    assert text.splitlines()[2] == "1 of 6 trials are not finished yet."
    assert text.splitlines()[4] == "To come: cot, seed=2."
    assert "| Fine-tune-CoT | llama from scratch, 3.1k | 3.1k | " in text
    assert "With an asterisk: not all of its seeds are finished." in text
    for attempt, reason in ((1, "first"), (2, "the loss is not finite")):
        note = {"name": "cot, seed=2", "reason": reason, "attempt": attempt}
        (run / "failed" / f"abc.{attempt}.json").write_text(json.dumps(note))
    text = ftcot(capsys, "report", str(run))
    assert text.splitlines()[2] == "1 of 6 trials are not finished yet, 1 failed."
    assert text.splitlines()[4] == "Failed: cot, seed=2: the loss is not finite"
    page = (run / "report/report.html").read_text()
    assert "Failed: cot, seed=2: the loss is not finite" in page
    assert artefacts(run) == before


def test_nothing_is_sampled_or_trained_for_a_report(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drop(run, "completions")
    before = artefacts(run)
    text = ftcot(capsys, "report", str(run))
    assert text.splitlines()[2] == "4 of 6 trials are not finished yet."
    assert "| answers |" in text
    assert "…" in text
    drop(run, "pairs")
    line = ftcot(capsys, "report", str(run), code=1)
    assert "none of the 6 trials is finished; run `ftcot run` first" in line
    assert set(artefacts(run)) < set(before)


def test_the_sample_study_is_beside_the_page(run: Path) -> None:
    data = embedded((run / "report/study.html").read_text())
    writers = [name for name in data["students"] if not name.startswith("teacher")]
    assert writers == ["answers, seed=1", "cot, seed=1", "more, seed=1"]
    assert 'href="study.html"' in (run / "report/report.html").read_text()


def test_recipes_that_share_a_folder_are_one_report(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = (run / "tiny.yaml").read_text()
    (run / "other.yaml").write_text(saved.replace("name: tiny", "name: other"))
    text = ftcot(capsys, "report", str(run))
    assert text.startswith("# other, tiny: weekday_tracking, 12 held-out questions, 2 seeds\n")
    assert "| other: cot |" in text
    assert "| tiny: cot |" in text


def test_bad_sources_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    for source in ("empty", "nowhere"):
        line = ftcot(capsys, "report", str(tmp_path / source), code=2)
        assert line.endswith(f"{source}: neither a recipe nor a run's folder, in which its recipe is saved")
    assert "no such recipe" in ftcot(capsys, "report", str(tmp_path / "none.yaml"), code=2)
    assert not (tmp_path / "none").exists()


def test_the_title_names_all_datasets() -> None:
    results = grid(tasks=("svamp", "multiarith"), degrees=(1, 2), seeds=2)
    assert _title(["d"], results) == "d: multiarith, svamp, 150 held-out questions, 2 seeds"
