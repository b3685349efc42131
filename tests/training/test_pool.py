"""The pool: refilled slots, exact resume after kills and on other slot counts, failing trials, looks."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from ftcot_jax.errors import Preempted
from ftcot_jax.records.plan import Planner, TrialData
from ftcot_jax.training.mesh import make_mesh
from ftcot_jax.training.metric_log import read_metrics
from ftcot_jax.training.optimizer import Hyper
from ftcot_jax.training.pool import Pool, PoolOptions
from ftcot_jax.training.processes import ALONE, Processes
from ftcot_jax.training.reporting import metrics_file
from ftcot_jax.training.settings import CheckpointSettings, MeshSettings, TrainSettings
from ftcot_jax.training.trial import Look, Looked, Trial
from tests.training.tiny import TinyStudent, make_records

STUDENT = TinyStudent()
TABLE = make_records(23)
LONG = (30, 40, 25, 35)


@dataclasses.dataclass
class Recorder:
    """Keeps what the pool tells; optionally stops the process at a given step."""

    stop_at: tuple[str, int] | None = None
    done: dict[str, Any] = dataclasses.field(default_factory=dict)
    looked: list[tuple[str, int]] = dataclasses.field(default_factory=list)
    reasons: dict[str, str] = dataclasses.field(default_factory=dict)
    lines: list[str] = dataclasses.field(default_factory=list)

    stop_early: dict[str, int] = dataclasses.field(default_factory=dict)
    kept: dict[tuple[str, int], Any] = dataclasses.field(default_factory=dict)
    ended_at: dict[str, int] = dataclasses.field(default_factory=dict)

    def look(self, due: Sequence[Look], params_S: Any) -> Looked:
        self.looked.extend((look.trial.key, look.step) for look in due)
        assert len({look.slot for look in due}) == len(due)
        assert max(look.slot for look in due) < len(jax.tree.leaves(params_S)[0])
        stop = [look.slot for look in due if self.stop_early.get(look.trial.key) == look.step]
        return Looked(keep=[look.slot for look in due if look.step == 3], stop=stop)

    def keep(self, trial: Trial, step: int, params: Any) -> None:
        self.kept[trial.key, step] = jax.device_get(params)

    def finished(self, trial: Trial, step: int, params: Any, summary: dict[str, Any]) -> None:
        assert trial.key not in self.done
        assert 0 <= summary["input_wait_share"] <= 1
        assert summary["examples"] == sum(len(trial.data.at(taken)) for taken in range(step))
        self.ended_at[trial.key] = step
        assert summary["seconds"] == pytest.approx(sum(summary["spent"].values()))
        assert min(summary["spent"].values()) > -1e-6
        assert 0 < summary["packing_efficiency"] <= 1
        self.done[trial.key] = jax.device_get(params)

    def failed(self, trial: Trial, reason: str) -> None:
        self.reasons[trial.key] = reason

    def progress(self, trial: Trial, step: int, row: dict[str, Any]) -> None:
        if (trial.key, step) == self.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)


def make_trials(steps: tuple[int, ...] = (7, 12, 5, 9)) -> list[Trial]:
    trials = []
    for number, count in enumerate(steps):
        settings = TrainSettings(learning_rate=1e-2, schedule="linear")
        data = TrialData(np.arange(number, 23), seed=number, batch_examples=4)
        trials.append(
            Trial(
                key=f"trial{number}",
                name=f"trial {number}",
                data=data,
                hyper=Hyper.of(settings, count),
                steps=count,
                initial=lambda seed=number: STUDENT.init(seed),
                looks=frozenset({0, 3}),
            )
        )
    return trials


def run(
    folder: Path,
    recorder: Recorder,
    trials: list[Trial],
    slots: int = 2,
    every: int | None = None,
    mesh: MeshSettings | None = None,
    processes: Processes = ALONE,
    finished: Collection[str] = (),
    **more: Any,
) -> Recorder:
    options = PoolOptions(slots, "map", CheckpointSettings(minutes=1e9, steps=every), folder, None, **more)
    devices = make_mesh(mesh or MeshSettings())
    pool = Pool(
        STUDENT,
        "tiny",
        TABLE,
        trials,
        devices,
        options,
        recorder,
        recorder.lines.append,
        processes=processes,
        queue=[trial.key for trial in trials if trial.key not in finished],
    )
    pool.run()
    return recorder


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recorder, Path]:
    folder = tmp_path_factory.mktemp("undisturbed")
    return run(folder, Recorder(), make_trials()), folder


def assert_same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert ours.keys() == theirs.keys()
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def test_every_trial_finishes_and_is_looked_at(undisturbed: tuple[Recorder, Path]) -> None:
    recorder, folder = undisturbed
    assert sorted(recorder.done) == ["trial0", "trial1", "trial2", "trial3"]
    assert sorted(recorder.looked) == sorted((t.key, step) for t in make_trials() for step in (0, 3, t.steps))
    assert sorted(recorder.kept) == [(f"trial{n}", 3) for n in range(4)]
    assert recorder.ended_at == {trial.key: trial.steps for trial in make_trials()}
    for trial in make_trials():
        rows = read_metrics(metrics_file(folder, trial))
        assert [row["step"] for row in rows] == list(range(trial.steps))
        falling = [0.01 * (1 - step / trial.steps) for step in range(trial.steps)]
        np.testing.assert_allclose([row["learning_rate"] for row in rows], falling, rtol=1e-5)


@pytest.mark.parametrize("slots", [1, 3, 6])
def test_the_number_of_slots_changes_no_result(undisturbed: tuple[Recorder, Path], slots: int, tmp_path: Path) -> None:
    ours = run(tmp_path, Recorder(), make_trials(), slots=slots)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), ours.done, undisturbed[0].done)


@pytest.mark.parametrize("stop_at", [("trial0", 1), ("trial1", 6), ("trial2", 5), ("trial3", 6)])
def test_sigterm_saves_and_the_next_run_ends_bitwise_equal(
    undisturbed: tuple[Recorder, Path], stop_at: tuple[str, int], tmp_path: Path
) -> None:
    first = Recorder(stop_at=stop_at)
    with pytest.raises(Preempted, match="SIGTERM") as stopped:
        run(tmp_path, first, make_trials())
    assert stopped.value.exit_code == 42
    left = [trial for trial in make_trials() if trial.key not in first.done]
    second = run(tmp_path, Recorder(), left)
    assert_same(first.done | second.done, undisturbed[0].done)
    for trial in make_trials():
        rows, whole = (read_metrics(metrics_file(folder, trial)) for folder in (tmp_path, undisturbed[1]))
        assert [(row["step"], row["loss"]) for row in rows] == [(row["step"], row["loss"]) for row in whole]


def test_resume_with_other_slot_counts(undisturbed: tuple[Recorder, Path], tmp_path: Path) -> None:
    first = Recorder(stop_at=("trial1", 4))
    with pytest.raises(Preempted):
        run(tmp_path, first, make_trials(), slots=3)
    left = [trial for trial in make_trials() if trial.key not in first.done]
    second = run(tmp_path, Recorder(), left, slots=1)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        first.done | second.done,
        undisturbed[0].done,
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [({}, {"data": 4, "trial": 2}), ({"fsdp": 4}, {"tensor": 2}), ({"trial": 2, "tensor": 4}, {})],
)
def test_resume_on_another_topology(
    before: dict[str, int], after: dict[str, int], undisturbed: tuple[Recorder, Path], tmp_path: Path
) -> None:
    first = Recorder(stop_at=("trial1", 4))
    with pytest.raises(Preempted):
        run(tmp_path, first, make_trials(), mesh=MeshSettings(**before))
    left = [trial for trial in make_trials() if trial.key not in first.done]
    assert len(left) >= 3
    second = run(tmp_path, Recorder(), left, mesh=MeshSettings(**after))
    assert ("trial1", 0) in first.looked
    assert ("trial1", 0) not in second.looked  # it went on, and did not start again
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        first.done | second.done,
        undisturbed[0].done,
    )


def test_trials_due_together_are_looked_at_together(tmp_path: Path) -> None:
    moments: list[list[tuple[int, str, int]]] = []

    class Moments(Recorder):
        def look(self, due: Sequence[Look], params_S: Any) -> Looked:
            moments.append([(look.slot, look.trial.key, look.step) for look in due])
            return super().look(due, params_S)

    run(tmp_path, Moments(), make_trials((5, 5, 4)))
    assert moments == [
        [(0, "trial0", 0), (1, "trial1", 0)],
        [(0, "trial0", 3), (1, "trial1", 3)],
        [(0, "trial0", 5), (1, "trial1", 5)],
        [(0, "trial2", 0)],
        [(0, "trial2", 3)],
        [(0, "trial2", 4)],
    ]


@pytest.mark.parametrize("slots", [1, 2, 4])
def test_a_trial_stopped_early_is_the_trial_on_its_way(
    undisturbed: tuple[Recorder, Path], slots: int, tmp_path: Path
) -> None:
    """Its slot goes to the next trial; its weights are what anybody's were after that step, the others as ever."""
    ours = run(tmp_path, Recorder(stop_early={"trial1": 3}), make_trials(), slots=slots)
    assert ours.ended_at == undisturbed[0].ended_at | {"trial1": 3}
    rows = read_metrics(metrics_file(tmp_path, make_trials()[1]))
    assert [row["step"] for row in rows] == [0, 1, 2]
    expected = undisturbed[0].done | {"trial1": undisturbed[0].kept["trial1", 3]}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), ours.done, expected)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kill_dash_nine_at_random_steps(tmp_path: Path) -> None:
    """A process that is killed outright twenty times; the last run ends with the undisturbed weights, bit for bit."""
    script = textwrap.dedent(
        """
        import os, sys
        from pathlib import Path
        import numpy as np
        from tests.training import test_pool
        class Killed(test_pool.Recorder):
            def finished(self, trial, step, params, summary):
                super().finished(trial, step, params, summary)
                np.savez(f"{sys.argv[1]}/{trial.key}.npz", **self.done[trial.key])
            def progress(self, trial, step, row):
                if int(sys.argv[2]) and Killed.steps == int(sys.argv[2]):
                    os.kill(os.getpid(), 9)
                Killed.steps += 1
        Killed.steps = 0
        trials = test_pool.make_trials(test_pool.LONG)
        done = {trial.key for trial in trials if Path(f"{sys.argv[1]}/{trial.key}.npz").exists()}
        if len(done) < len(trials):
            test_pool.run(Path(sys.argv[1]), Killed(), trials, every=2, finished=done)
        """
    )
    whole = run(tmp_path / "undisturbed", Recorder(), make_trials(LONG))
    codes = []
    kills = np.random.RandomState(7).randint(1, 9, 20).tolist()
    for kill_after in (*kills, 0):
        command = [sys.executable, "-c", script, str(tmp_path), str(kill_after)]
        codes.append(subprocess.run(command, cwd=Path(__file__).parents[2], check=False).returncode)
    assert codes == [-9] * 20 + [0]
    done = {key: dict(np.load(tmp_path / f"{key}.npz")) for key in whole.done}
    assert_same(done, whole.done)


def test_trials_left_over_are_computed_in_the_shapes_of_all(tmp_path: Path) -> None:
    """A run that goes on with the short records' trial alone would pack them in shorter rows, and round otherwise."""
    short = np.argsort(TABLE.lengths, kind="stable")[:6]
    longer, left = make_trials((3, 4))
    left = dataclasses.replace(left, data=TrialData(short, seed=5, batch_examples=4))
    whole = run(tmp_path / "whole", Recorder(), [longer, left], slots=1)
    rest = run(tmp_path / "rest", Recorder(), [longer, left], slots=1, finished={longer.key})
    assert list(rest.done) == [left.key]
    assert_same(rest.done[left.key], whole.done[left.key])
    both, alone = (Planner.for_trials(TABLE, [t.data for t in trials], width=8) for trials in ([longer, left], [left]))
    assert both.shapes != alone.shapes  # so that there was something to get wrong


def test_a_diverging_trial_is_recorded_and_replaced(undisturbed: tuple[Recorder, Path], tmp_path: Path) -> None:
    trials = make_trials()
    bad = dataclasses.replace(
        trials[1], initial=lambda: jax.tree.map(lambda leaf: leaf.at[0, 0].set(np.nan), STUDENT.init(1))
    )
    recorder = run(tmp_path, Recorder(), [trials[0], bad, *trials[2:]])
    assert recorder.reasons == {"trial1": "loss became nan at step 0"}
    expected = {key: value for key, value in undisturbed[0].done.items() if key != "trial1"}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), recorder.done, expected)


def test_the_only_trial_diverges_when_a_checkpoint_is_due(tmp_path: Path) -> None:
    bad = dataclasses.replace(
        make_trials()[0], initial=lambda: jax.tree.map(lambda leaf: leaf.at[0, 0].set(np.nan), STUDENT.init(0))
    )
    assert run(tmp_path, Recorder(), [bad], slots=1, every=1).reasons == {"trial0": "loss became nan at step 0"}
