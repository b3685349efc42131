"""The loop: nothing waits for the device inside a step, metrics come a step late, and the time is accounted for."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import jax
import pytest

from ftcot_jax.training.clock import PARTS
from ftcot_jax.training.mesh import make_mesh
from ftcot_jax.training.pool import Pool, PoolOptions
from ftcot_jax.training.settings import CheckpointSettings, MeshSettings
from tests.training.test_pool import STUDENT, TABLE, Recorder, make_trials

_READS = ("__array__", "__float__", "__int__", "__bool__", "__index__", "item", "tolist", "block_until_ready")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the loop does to the device between attending to two trials, in order; implicit transfers are errors.

    To the device: jax's own guard. From it: a CPU's arrays are the host's already and jax does not guard them, so
    every way to read one is watched, but for jax.device_get.
    """
    told: list[str] = []
    reading = 0
    array = type(jax.numpy.zeros(()))

    def watch(name: str) -> None:
        original = getattr(array, name)

        def read(self: Any, *args: Any, **kwargs: Any) -> Any:
            if not reading and steady:
                raise AssertionError(f"an array was read by {name} inside the loop")
            return original(self, *args, **kwargs)

        monkeypatch.setattr(array, name, read)

    for name in _READS:
        watch(name)
    get = jax.device_get

    def device_get(tree: Any) -> Any:
        nonlocal reading
        if steady:
            told.append("get")
        reading += 1
        try:
            return get(tree)
        finally:
            reading -= 1

    monkeypatch.setattr(jax, "device_get", device_get)
    steady = 0

    def guarded(name: str) -> None:
        original = getattr(Pool, name)

        def call(self: Pool, *args: Any) -> Any:
            nonlocal steady
            if name == "_launch":
                told.append("launch")
            steady += 1
            try:
                with jax.transfer_guard("disallow"):
                    return original(self, *args)
            finally:
                steady -= 1

        monkeypatch.setattr(Pool, name, call)

    guarded("_launch")
    guarded("_flush")
    return told


def make_pool(folder: Path, slots: int = 1, mesh: MeshSettings | None = None, steps: tuple[int, ...] = (9,)) -> Pool:
    options = PoolOptions(slots, "map", CheckpointSettings(minutes=1e9), folder, folder / "board")
    recorder = Recorder()
    return Pool(STUDENT, "tiny", TABLE, make_trials(steps), make_mesh(mesh or MeshSettings()), options, recorder, print)


@pytest.mark.parametrize(("slots", "mesh"), [(1, {}), (2, {"trial": 2, "data": 2})])
def test_metrics_come_one_step_late_and_nothing_else_is_read(
    slots: int, mesh: dict[str, int], told: list[str], tmp_path: Path
) -> None:
    make_pool(tmp_path, slots, MeshSettings(**mesh), (9,) * slots).run()
    # looked at before steps 0 and 3: what is on its way is read first
    late = ["launch"] + ["launch", "get"] * 2 + ["get"]
    rest = ["launch"] + ["launch", "get"] * 5 + ["get"]
    assert told == late + rest


def test_a_read_inside_the_loop_is_noticed(told: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The watch itself: a loop that looks at its loss after every step does not pass."""
    pool = make_pool(tmp_path)
    step = pool._step

    def reading(*args: Any) -> Any:
        state, metrics = step(*args)
        float(metrics.loss[0])
        return state, metrics

    monkeypatch.setattr(pool, "_step", reading)
    with pytest.raises(AssertionError, match="an array was read by __float__ inside the loop"):
        pool.run()


def test_the_parts_of_the_time_sum_to_the_wall_time(tmp_path: Path) -> None:
    pool = make_pool(tmp_path)
    before, began = sum(pool.clock.read().values()), time.monotonic()
    pool.run()
    spent, wall = pool.clock.read(), time.monotonic() - began
    assert tuple(spent) == PARTS
    assert sum(spent.values()) - before == pytest.approx(wall, abs=0.01)
    assert spent["compile"] > 0
    assert spent["step"] > 0
    assert all(seconds >= -1e-6 for seconds in spent.values())


def test_a_profile_is_written_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = PoolOptions(1, "map", CheckpointSettings(minutes=1e9), tmp_path, tmp_path / "board", profile_steps=(4, 6))
    Pool(STUDENT, "tiny", TABLE, make_trials((9,)), make_mesh(MeshSettings()), options, Recorder(), print).run()
    (trace,) = (tmp_path / "profile").rglob("*.xplane.pb")
    assert trace.stat().st_size > 1000
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("profile")]
    assert said == [f"profile of steps 4 to 6: {tmp_path / 'profile'} (tensorboard --logdir, with xprof installed)"]
