"""Many workers on one sweep: however they are killed, frozen or doubled, every trial ends once, as undisturbed."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from etils import epath

from ftcot_jax.config import load_recipe
from ftcot_jax.sweeps.status import read_status
from tests.stages.test_road import ROOT, TINY, ftcot, in_process

TRIALS = 30
MANY = TINY.replace("{seed: [1, 2]}", f"{{seed: {list(range(TRIALS // 2))}}}").replace(
    "sweep:", "sweep:\n  lease_seconds: 4"
)
FEW = MANY.replace(f"{{seed: {list(range(TRIALS // 2))}}}", "{seed: [1, 2, 3]}")
FOUR_LONG = (
    FEW.replace("[1, 2, 3]", "[1, 2]")
    .replace("steps: 12", "steps: 150")
    .replace("checkpoints: {steps: 3}", "checkpoints: {steps: 50}")
)


def worker(recipe: Path, out: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", "from ftcot_jax.cli import main; main()", "sweep", "run", str(recipe)]
    return subprocess.Popen(
        [*command, "--out", str(out), *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_until(done: Callable[[], Any], seconds: float = 200) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)


def results(out: Path) -> dict[str, dict[str, Any]]:
    """Every result by its trial's name, each read from the one file a trial has."""
    rows = [json.loads(path.read_text()) for path in (out / "results").glob("*.json")]
    assert len({row["name"] for row in rows}) == len(rows)
    return {row["name"]: row for row in rows}


def ends(out: Path) -> dict[str, tuple[bytes, str, str]]:
    """What each trial has come to, bit for bit: its weights, the text of its answers, its losses."""
    found = {}
    for name, row in results(out).items():
        student, scores = (out / "artifacts" / row["artifacts"][part] for part in ("student", "scores"))
        losses = [json.loads(line)["loss"] for line in (student / "metrics.jsonl").read_text().splitlines()]
        weights = (student / "student" / "model.safetensors").read_bytes()
        found[name] = (weights, (scores / "predictions.json").read_text(), str(losses))
    return found


def claimed(out: Path) -> int:
    """Claims that stand."""
    claims = list((out / "claims").glob("[!.]*.json")) if (out / "claims").exists() else []
    return sum(not path.with_suffix(".released").exists() for path in claims)


def count(folder: Path) -> int:
    return len(list(folder.glob("[!.]*.json"))) if folder.exists() else 0


def write(folder: Path, text: str) -> Path:
    (folder / "tiny.yaml").write_text(text)
    return folder / "tiny.yaml"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 30 trials by one worker that nobody disturbs."""
    folder = tmp_path_factory.mktemp("sweep")
    ftcot("sweep", "run", str(write(folder, MANY)), "--out", str(folder / "out"))
    return folder / "out"


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("few")
    ftcot("sweep", "run", str(write(folder, FEW)), "--out", str(folder / "out"))
    return folder / "out"


def test_a_row_says_what_was_done_by_what(few: Path) -> None:
    rows = results(few)
    assert len(rows) == 6
    row = rows["cot, seed=2"]
    assert (row["arm"], row["overlay"]) == ("cot", {"template": "ft_cot_token", "seed": 2})
    assert row["recipe"]["train"]["seed"] == 2
    assert row["recipe"]["student"]["scratch"]["hidden_size"] == 16
    assert row["code"]["version"]
    assert set(row["hardware"]) == {"devices", "machine", "system"}
    assert set(row["seconds"]) == {"prepare", "train", "score", "total"}
    assert row["seconds"]["total"] >= row["seconds"]["train"] > 0
    assert row["worker"]["share"] == "1/1"
    assert row["accuracy"] == row["scores"]["accuracy"]
    assert (few / "artifacts" / row["artifacts"]["scores"]).is_dir()
    lines = [json.loads(line) for line in (few / "results.jsonl").read_text().splitlines()]
    assert {line["name"]: line for line in lines} == rows
    assert claimed(few) == 0


def test_a_saved_recipe_is_the_same_sweep(few: Path, tmp_path: Path) -> None:
    """What is handed to Kubernetes: the recipe as the run wrote it."""
    names = [[trial.name for trial in load_recipe(str(path))[1]] for path in (few / "tiny.yaml", write(tmp_path, FEW))]
    assert names[0] == names[1]


def test_status_of_what_is_done(few: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (sweep,) = read_status(epath.Path(few))
    assert sweep.counts() == {"done": 6, "running": 0, "failed": 0, "waiting": 0}
    assert [group.eta_seconds for group in sweep.groups] == [0.0] * len(sweep.groups)
    assert sweep.workers == 0
    monkeypatch.setattr(sys, "argv", ["ftcot", "sweep", "status", str(few), "--json"])
    from ftcot_jax.cli import main

    with pytest.raises(SystemExit):
        main()
    (shown,) = json.loads(capsys.readouterr().out)
    assert shown["counts"] == sweep.counts()
    assert shown["trials"] == [json.loads(json.dumps(dataclasses.asdict(trial))) for trial in sweep.trials]


def test_what_fails_is_listed_and_tried_again_when_told(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A trial that diverges leaves a note; others are as they were; nothing is tried again but by the flag."""
    text = (
        FEW.replace(
            "- {seed: [1, 2, 3]}", "- {arm: [fine, wild], train.learning_rate: [1.0e-2, 1.0e+38]}\n    - {seed: [1]}"
        )
        .replace("[answers, cot]", "[cot]")
        .replace("[ft_token, ft_cot_token]", "[ft_cot_token]")
    )
    recipe, out = write(tmp_path, text), tmp_path / "out"
    words = ["sweep", "run", str(recipe), "--out", str(out)]
    for flags, attempts in (([], 1), ([], 1), (["--retry-failed"], 2)):
        said = in_process(monkeypatch, capsys, 1, *words, *flags)
        assert "1 of 2 trials failed (cot, wild, seed=1: loss became nan at step" in said.splitlines()[-1]
        assert count(out / "failed") == attempts
        assert list(results(out)) == ["cot, fine, seed=1"]
    assert claimed(out) == 0
    (sweep,) = read_status(epath.Path(out))
    assert sweep.counts() == {"done": 1, "running": 0, "failed": 1, "waiting": 0}
    (reason,) = [trial.reason for trial in sweep.trials if trial.state == "failed"]
    assert reason is not None
    assert "loss became nan" in reason
    assert ends(out)["cot, fine, seed=1"] == ends(few)["cot, seed=1"]


def test_a_result_whose_student_was_removed_is_made_again(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted, row = ends(few), results(few)["cot, seed=2"]
    for part in ("student", "scores"):
        epath.Path(few / "artifacts" / row["artifacts"][part]).rmtree()
    said = in_process(monkeypatch, capsys, 0, "sweep", "run", str(few.parent / "tiny.yaml"), "--out", str(few))
    assert "5 of 6 trials are done already" in said
    assert ends(few) == wanted


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kill_dash_nine_at_random_moments(undisturbed: Path, tmp_path: Path) -> None:
    """Thirty trials whose driver is killed, again and again: one result each, and all as undisturbed."""
    recipe, out, dice = write(tmp_path, MANY), tmp_path / "out", random.Random(8)
    moments = sorted(dice.sample(range(TRIALS - 1), 7))
    killed = []
    for moment in moments:
        process = worker(recipe, out)
        wait_until(lambda p=process, m=moment: p.poll() is not None or (count(out / "results") >= m and claimed(out)))
        time.sleep(dice.uniform(0, 0.3))
        process.kill()
        process.communicate()
        killed.append(count(out / "results"))
    assert killed[-1] < TRIALS
    last = worker(recipe, out)
    assert last.wait(200) == 0, last.communicate()
    assert len(results(out)) == TRIALS
    assert ends(out) == ends(undisturbed)
    assert count(out / "failed") == 0
    assert claimed(out) == sum(claim_of_the_dead(out))
    assert len((out / "results.jsonl").read_text().splitlines()) == TRIALS


def claim_of_the_dead(out: Path) -> Iterator[int]:
    """One for every claim that stands though a later one follows it."""
    for path in (out / "claims").glob("[!.]*.json"):
        key, generation, _ = path.name.split(".")
        followed = (path.parent / f"{key}.{int(generation) + 1}.json").exists()
        yield int(followed and not path.with_suffix(".released").exists())


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_workers_with_the_same_share_and_a_third(few: Path, tmp_path: Path) -> None:
    recipe, out = write(tmp_path, FEW), tmp_path / "out"
    started = [worker(recipe, out, "--worker", share) for share in ("1/2", "1/2", "2/2")]
    said = [process.communicate(timeout=280) for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], said
    assert sum(text.count("student: made") for _, text in said) == 6
    assert ends(out) == ends(few)
    sessions = {row["worker"]["session"] for row in results(out).values()}
    assert len(sessions) > 1


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_frozen_worker_is_followed_and_publishes_nothing_more(tmp_path: Path) -> None:
    text = FOUR_LONG
    recipe, out = write(tmp_path, text), tmp_path / "out"
    frozen = worker(recipe, out, "--worker", "1/2")

    def in_the_middle() -> bool:
        logs = list(out.glob("pools/*/metrics/*.jsonl"))
        return any(20 < len(log.read_bytes().splitlines()) < 120 for log in logs)

    wait_until(in_the_middle)
    frozen.send_signal(signal.SIGSTOP)
    before = set(results(out))
    heir = worker(recipe, out, "--worker", "2/2")
    said = heir.communicate(timeout=280)[1]
    assert heir.returncode == 0, said
    assert len(results(out)) == 4
    rows = {path: path.read_bytes() for path in (out / "results").iterdir()}
    frozen.send_signal(signal.SIGCONT)
    text = frozen.communicate(timeout=200)[1]
    assert frozen.returncode == 0, text
    assert {path: path.read_bytes() for path in (out / "results").iterdir()} == rows
    sessions = {name: row["worker"]["share"] for name, row in results(out).items()}
    assert {share for name, share in sessions.items() if name not in before} == {"2/2"}
    assert list((out / "claims").glob("*.2.json"))
    ftcot("sweep", "run", str(recipe), "--out", str(tmp_path / "alone"))
    assert ends(out) == ends(tmp_path / "alone")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_worker_that_is_told_to_stop_lets_others_go_on_at_once(tmp_path: Path) -> None:
    text = FOUR_LONG.replace("lease_seconds: 4", "lease_seconds: 3600")
    recipe, out = write(tmp_path, text), tmp_path / "out"
    first = worker(recipe, out, "--worker", "1/2")
    wait_until(lambda: list(out.glob("pools/*/metrics/*.jsonl")))
    (name,) = {path.name.split("-")[2] for path in (out / "pools").iterdir()}
    assert name == "w1of2"
    first.terminate()
    said = first.communicate(timeout=200)[1]
    assert first.returncode == 42, said
    assert said.splitlines()[-1] == "ftcot: stopped by SIGTERM and saved; run the same command to go on"
    assert claimed(out) == 0
    second = worker(recipe, out, "--worker", "2/2")
    said = second.communicate(timeout=280)[1]
    assert second.returncode == 0, said
    assert "going on from what w1of2-" in said
    assert len(results(out)) == 4


def test_ctrl_c_while_others_work(tmp_path: Path, few: Path) -> None:
    """A worker with nothing to do but wait ends at once, and as one that may come again."""
    out = tmp_path / "out"
    recipe = write(tmp_path, FEW.replace("lease_seconds: 4", "lease_seconds: 3600"))
    (out / "artifacts").mkdir(parents=True)
    for path in (few / "artifacts").iterdir():
        if path.name.startswith(("completions", "pairs", "records")):
            os.symlink(path, out / "artifacts" / path.name)
    keys = [path.name.removesuffix(".json") for path in (few / "results").glob("[!.]*.json")]
    (out / "claims").mkdir()
    for key in keys:
        (out / "claims" / f"{key}.1.json").write_text(json.dumps({"session": "somebody"}))
    waiting = worker(recipe, out)
    wait_until(lambda: count(out / "trials"))
    time.sleep(1)
    assert waiting.poll() is None
    waiting.send_signal(signal.SIGINT)
    said = waiting.communicate(timeout=60)[1]
    assert waiting.returncode == 42, said
    assert said.splitlines()[-1] == "ftcot: stopped by SIGINT; run the same command to go on"
    assert count(out / "results") == 0
