"""Early stopping: after so many looks without a better one, whatever runs beside it and whatever was killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from ftcot_jax.errors import UsageError
from tests.stages.test_kept import kept_steps, weights
from tests.stages.test_selection import ROOT, run

BEST = "evaluate.selection=best_on_validation"
TWO = ["train.epochs=8", "train.learning_rate=3.0e-2", "sweep.axes=[{seed: [1, 4]}]", BEST]


def validated(folder: Path) -> dict[str, dict[int, float]]:
    """Accuracy on the validation questions by student and step."""
    found: dict[str, dict[int, float]] = {}
    for path in folder.glob("artifacts/scores-*/manifest.json"):
        manifest = json.loads(path.read_text())
        if manifest["summary"]["questions"] == 12:
            inputs = manifest["inputs"]
            found.setdefault(inputs["student"], {})[inputs["step"]] = manifest["summary"]["accuracy"]
    return found


def trials(folder: Path) -> dict[str, Any]:
    return {trial["name"]: trial for trial in json.loads((folder / "report" / "trials.json").read_text())}


def predicted(accuracies: list[float], patience: int) -> tuple[int, int]:
    """Look after which training stops, and the best up to there, counted from 1; by the definition."""
    for look in range(1, len(accuracies) + 1):
        best = accuracies.index(max(accuracies[:look])) + 1
        if look - best >= patience or look == len(accuracies):
            return look, best
    raise AssertionError


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stopped")
    (folder / "text").write_text(run(folder, "run", "evaluate.patience=2", *TWO))
    return folder


def test_stops_where_the_scores_of_the_whole_say(stopped: Path, tmp_path: Path) -> None:
    run(tmp_path, "run", *TWO)
    whole, ours = trials(tmp_path), trials(stopped)
    early = 0
    for name, trial in whole.items():
        curve = [accuracy for _, accuracy in trial["looks"]]
        end, best = predicted(curve, 2)
        assert [accuracy for _, accuracy in ours[name]["looks"]] == curve[:end]
        assert ours[name]["training"]["epochs"] == end
        assert ours[name]["training"]["steps"] == 2 * end
        assert ours[name]["training"]["stopped_early"] == (end < 8)
        assert ours[name]["epoch"] == best
        line = f"{name}: stopped early at epoch {end}, its best epoch {best} is reported"
        assert (line in (stopped / "text").read_text()) == (end < 8)
        early += end < 8
        metrics = [json.loads(line) for line in _student(stopped, 2 * end).open()]
        assert [row["step"] for row in metrics] == list(range(2 * end))
    assert early  # or there was nothing to see
    assert run(stopped, "report", "evaluate.patience=2", *TWO) in (stopped / "text").read_text()
    assert len(run(stopped, "evaluate", "evaluate.patience=2", *TWO).splitlines()) == 2


def _student(folder: Path, steps: int) -> Path:
    for path in folder.glob("artifacts/student-*"):
        if json.loads((path / "manifest.json").read_text())["summary"]["steps"] == steps:
            return path / "metrics.jsonl"
    raise AssertionError


def test_neighbours_change_nothing(stopped: Path, tmp_path: Path) -> None:
    run(tmp_path, "run", "evaluate.patience=2", *TWO, "train.slots=2")
    assert validated(tmp_path) == validated(stopped)
    assert {name: row["epoch"] for name, row in trials(tmp_path).items()} == {
        name: row["epoch"] for name, row in trials(stopped).items()
    }
    for one, other in zip(*(sorted(at.glob("artifacts/student-*")) for at in (tmp_path, stopped)), strict=True):
        assert one.name == other.name
        for name, leaf in weights(one / "student").items():
            np.testing.assert_allclose(leaf, weights(other / "student")[name], rtol=1e-4, atol=1e-5)


def test_patience_is_part_of_what_made_a_student(stopped: Path, tmp_path: Path) -> None:
    """One stopped early is not taken for one trained to the end, nor for one stopped by another rule."""
    students = {path.name for path in stopped.glob("artifacts/student-*")}
    run(tmp_path, "run", "evaluate.patience=1", *TWO)
    others = {path.name for path in tmp_path.glob("artifacts/student-*")}
    assert not students & others


def test_patience_needs_validation(tmp_path: Path) -> None:
    for selection in ("last", "best_on_test"):
        with pytest.raises(UsageError, match=f"patience=3 needs selection=best_on_validation, got {selection}") as told:
            run(tmp_path, "train", f"evaluate.selection={selection}", "evaluate.patience=3")
        assert "\n" not in str(told.value)


@pytest.mark.slow
def test_killed_around_the_stop(stopped: Path, tmp_path: Path) -> None:
    """kill -9 in the middle, right before the look that stops, and before and after the last weights are written."""
    script = textwrap.dedent(
        """
        import os, sys
        from pathlib import Path
        from ftcot_jax.artifacts import Store
        from ftcot_jax.stages import train
        from tests.stages import test_patience, test_selection
        make, lost, point = Store.make, train.has_lost_patience, sys.argv[2]
        def dying(store, kind, inputs, build):
            if kind == "student" and point == "before":
                os.kill(os.getpid(), 9)
            done = make(store, kind, inputs, build)
            if (kind == "student" and point == "after") or (kind == "best" and point == "best"):
                os.kill(os.getpid(), 9)
            return done
        def losing(place, job, step):
            if lost(place, job, step) and point == "stop":
                os.kill(os.getpid(), 9)
            return lost(place, job, step)
        Store.make, train.has_lost_patience = dying, losing
        how = ("evaluate.patience=2", "train.checkpoints.steps=3", *test_patience.TWO)
        test_selection.run(Path(sys.argv[1]), "run", *how)
        """
    )
    codes = []
    for point in ("best", "stop", "before", "after", "none"):
        command = [sys.executable, "-c", script, str(tmp_path), point]
        codes.append(subprocess.run(command, cwd=ROOT, env=os.environ, check=False, capture_output=True).returncode)
    assert codes == [-9, -9, -9, -9, 0]
    assert validated(tmp_path) == validated(stopped)
    assert kept_steps(tmp_path) == kept_steps(stopped)
    names = sorted(path.name for path in stopped.glob("artifacts/student-*"))
    assert names == sorted(path.name for path in tmp_path.glob("artifacts/student-*"))
    for name in names:
        ours, theirs = (weights(at / "artifacts" / name / "student") for at in (tmp_path, stopped))
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)
