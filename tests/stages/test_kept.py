"""The best epoch's weights: kept as they become best, removed as they are superseded, exported and scored."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import numpy as np
import pytest

from ftcot_jax.errors import FtcotError
from ftcot_jax.stages.export import export
from ftcot_jax.students.load import load_student
from ftcot_jax.students.settings import StudentSettings
from tests.stages.test_selection import ROOT, run, scores

# On this recipe the accuracies are such that epoch 1 is best, then epoch 4, and the last no better.
CHANGES = ["train.epochs=6", "train.learning_rate=3.0e-2"]
BEST = "evaluate.selection=best_on_test"


def weights(folder: Path) -> dict[str, np.ndarray]:
    params = load_student(StudentSettings(checkpoint=str(folder))).load()
    return {str(number): np.asarray(leaf) for number, leaf in enumerate(jax.tree.leaves(params))}


def kept_steps(folder: Path) -> list[int]:
    manifests = folder.glob("artifacts/best-*/manifest.json")
    return sorted(json.loads(path.read_text())["inputs"]["step"] for path in manifests)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    run(folder, "run", BEST, *CHANGES)
    return folder


def exported(folder: Path, to: Path, *overrides: str) -> dict[str, np.ndarray]:
    changes = [f"out={folder}", *CHANGES, *overrides]
    export(str(folder / "tiny.yaml"), changes, None, str(to), "float32", 10**9)
    return weights(to)


def test_the_best_epoch_is_kept_and_exported(whole: Path, tmp_path: Path) -> None:
    by_step = {step: accuracy for (step, _), accuracy in scores(whole).items()}
    best = min(step for step in by_step if by_step[step] == max(by_step.values()))
    assert best == 8 < max(by_step) == 12
    assert by_step[2] > by_step[4]  # so that one was kept before it, and superseded
    assert kept_steps(whole) == [8]
    assert not list(whole.glob("artifacts/.removed-*"))

    run(tmp_path, "run", "train.epochs=4", CHANGES[1])  # the same trial, stopped at its best epoch
    stopped = weights(next(tmp_path.glob("artifacts/student-*/student")))
    ours = exported(whole, tmp_path / "exported", BEST)
    last = exported(whole, tmp_path / "last", "evaluate.selection=last")
    assert ours.keys() == stopped.keys()
    for name, leaf in ours.items():
        np.testing.assert_array_equal(leaf, stopped[name])
    assert any((leaf != last[name]).any() for name, leaf in ours.items())


def test_the_best_epoch_is_scored_anew_from_its_own_weights(whole: Path) -> None:
    (scored,) = (path for path in whole.glob("artifacts/scores-*") if _step(path) == 8)
    outcomes = (scored / "outcomes.json").read_text()
    scored.rename(whole / "gone")
    with pytest.raises(FtcotError, match="so its epochs were not all scored"):
        run(whole, "evaluate", BEST, *CHANGES)
    (whole / "gone").rename(scored)
    assert run(whole, "evaluate", BEST, *CHANGES).startswith("tiny: 4 of 24 right")
    assert json.loads(outcomes).count(True) == 4


def _step(scored: Path) -> int:
    return int(json.loads((scored / "manifest.json").read_text())["inputs"]["step"])


def test_a_missing_best_epoch_is_one_line(tmp_path: Path) -> None:
    run(tmp_path, "run", BEST, *CHANGES)
    (kept,) = tmp_path.glob("artifacts/best-*")
    kept.rename(tmp_path / "gone")
    with pytest.raises(FtcotError, match="the weights of its best epoch, 4, are not there any more: delete"):
        exported(tmp_path, tmp_path / "exported", BEST)


@pytest.mark.slow
def test_killed_around_every_change_of_the_best(whole: Path, tmp_path: Path) -> None:
    """kill -9 right before and after a best epoch is kept or removed, and before the last weights are scored."""
    script = textwrap.dedent(
        """
        import os, sys
        from pathlib import Path
        from ftcot_jax.artifacts import Store
        from ftcot_jax.stages import kept
        from tests.stages import test_selection, test_kept
        def dying(call, wanted):
            def wrapped(*args, **kwargs):
                wrapped.calls += wanted(*args)
                at_the_point = wanted(*args) and f"{call.__name__}{wrapped.calls}" == sys.argv[2][:-1]
                if at_the_point and sys.argv[2][-1] == "<":
                    os.kill(os.getpid(), 9)
                done = call(*args, **kwargs)
                if at_the_point:
                    os.kill(os.getpid(), 9)
                return done
            wrapped.calls = 0
            return wrapped
        Store.make = dying(Store.make, lambda store, kind, *rest: kind in ("best", "student"))
        Store.remove = dying(Store.remove, lambda *args: True)
        test_selection.run(Path(sys.argv[1]), "run", test_kept.BEST, "train.checkpoints.steps=3", *test_kept.CHANGES)
        """
    )
    codes = []
    # Every run starts again from its last checkpoint, so the calls are counted anew.
    for point in ("make1<", "make2>", "remove1<", "remove1>", "none"):
        command = [sys.executable, "-c", script, str(tmp_path), point]
        codes.append(subprocess.run(command, cwd=ROOT, env=os.environ, check=False, capture_output=True).returncode)
    assert codes.count(-9) == 4
    assert codes[-1] == 0
    assert kept_steps(tmp_path) == kept_steps(whole)
    assert scores(tmp_path) == scores(whole)
    ours, theirs = (exported(folder, tmp_path / folder.name, BEST) for folder in (tmp_path, whole))
    for name, leaf in ours.items():
        np.testing.assert_array_equal(leaf, theirs[name])
