"""Students of many slots are scored side by side: on eight devices or by two processes the scores are one's."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ftcot_jax.evaluation import score_student
from tests.stages.test_selection import TINY, run
from tests.stages.test_several_processes import run_all

FOUR = [
    "train.epochs=3",
    "train.learning_rate=3.0e-2",
    "sweep.axes=[{arm: [answers, cot], template: [ft_token, ft_cot_token]}, {seed: [1, 4]}]",
    "evaluate.before=true",
    "evaluate.selection=best_on_validation",
]


def written(folder: Path) -> dict[str, tuple[Any, Any]]:
    """Every score artefact by name: what the student wrote, and how many are right."""
    return {
        path.name: tuple(json.loads((path / name).read_text()) for name in ("predictions.json", "outcomes.json"))
        for path in folder.glob("artifacts/scores-*")
    }


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One slot on one device."""
    folder = tmp_path_factory.mktemp("one")
    run(folder, "run", *FOUR)
    return folder


def best(folder: Path) -> dict[str, Any]:
    return {trial["name"]: trial["epoch"] for trial in json.loads((folder / "report" / "trials.json").read_text())}


@pytest.mark.slow
def test_four_slots_on_eight_devices(
    one_by_one: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[tuple[int, int]] = []
    generate_many = score_student.generate_many

    def counting(student: Any, params_S: Any, prompts: Any, **how: Any) -> Any:
        devices = {device for leaf in params_S["embed"].addressable_shards for device in [leaf.device]}
        calls.append((sum(map(bool, prompts)), len(devices)))
        return generate_many(student, params_S, prompts, **how)

    monkeypatch.setattr(score_student, "generate_many", counting)
    run(tmp_path, "run", *FOUR, "train.slots=4", "mesh={trial: 4, data: 2}")
    ours, theirs = written(tmp_path), written(one_by_one)
    assert len(ours) >= 4 * 5
    assert ours == theirs
    assert best(tmp_path) == best(one_by_one)
    assert {devices for _, devices in calls} == {8}
    assert sum(students for students, _ in calls) == len(ours)  # each was scored once, by nobody else
    assert max(students for students, _ in calls) == 4
    assert len(calls) <= 8  # of four moments: validation questions, then test questions
    capsys.readouterr()
    assert len(run(tmp_path, "evaluate", *FOUR).splitlines()) == 4
    said = capsys.readouterr().err
    assert len(re.findall("evaluate: reusing", said)) == 4
    assert written(tmp_path) == ours


@pytest.mark.slow
def test_adapters_of_four_slots_share_their_base(one_by_one: Path, tmp_path: Path) -> None:
    base = next(one_by_one.glob("artifacts/student-*/student"))
    how = ["train.epochs=2", "train.learning_rate=3.0e-2", "sweep.axes=[{seed: [1, 4]}]", "evaluate.every_epochs=1"]
    how.append(f"student={{checkpoint: {base}, lora: {{rank: 2}}}}")
    for name, more in (("one", []), ("two", ["train.slots=2", "mesh={trial: 2, data: 2, tensor: 2}"])):
        (tmp_path / name).mkdir()
        run(tmp_path / name, "run", *how, *more)
    assert len(written(tmp_path / "one")) == 4
    assert written(tmp_path / "two") == written(tmp_path / "one")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("mesh", ["mesh.trial=-1", "mesh.data=-1"])
def test_two_processes(one_by_one: Path, tmp_path: Path, mesh: str) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    two = [*FOUR, "sweep.axes=[{arm: [cot]}, {seed: [1, 4]}]", "train.slots=2", mesh]
    ended = run_all(tmp_path, "run", str(tmp_path / "tiny.yaml"), *two, seconds=800)
    assert [code for code, _ in ended] == [0, 0], ended
    ours, theirs = written(tmp_path / "out"), written(one_by_one)
    assert len(ours) >= 2 * 5
    assert ours == {name: theirs[name] for name in ours}
    assert best(tmp_path / "out").items() <= best(one_by_one).items()
    assert "scores: made" not in ended[1][1]
