"""A grid over several slices, each a worker of one sweep in one folder: taken away and brought back, called again."""

from __future__ import annotations

import json
import sys
import time

import pytest

from tests.stages.test_road import TINY
from tests.tpu_scripts.cloud import ACTIVE, GONE, SCRIPTS, Cloud
from tests.tpu_scripts.test_processes import HERE, log_of

SWEEP = ("sweep.sh", "--yes", "--workers", "2", "ds")


def test_two_workers_share_one_folder_and_one_is_brought_back(cloud: Cloud) -> None:
    cloud.script({"states": [ACTIVE, ACTIVE, *GONE]}, {"states": [ACTIVE]})
    cloud.behave(steps=5, stall={"0": 2})
    code, _, said = cloud.run(*SWEEP, str(cloud.recipe), "sweep.axes=[{select.diversity: [4, 8]}]", "x=it's 1")
    assert code == 0, said
    assert "2 x v5litepod-4 = 8 chips" in said
    assert "all 2 workers finished" in said
    assert "ftcot report gs://my-bucket/ds" in said
    for number in "12":
        words = ["sweep.axes=[{select.diversity: [4, 8]}]", "x=it's 1", "--worker", f"{number}/2"]
        mine = [one["words"] for one in cloud.started() if f"{number}/2" in one["words"]]
        assert mine == [["sweep", "run", "tiny.yaml", *words, "--out", "gs://my-bucket/ds"]] * 2  # preempted once
        assert cloud.steps("ds", int(number)) == list(range(5))
        assert (cloud.bucket(f"ds-{number}/launch.done")).is_file()
        assert list(cloud.bucket(f"ds-{number}/logs").iterdir())
    assert not cloud.slices()


@pytest.mark.slow
def test_failed_workers_are_told_and_gone_on_with(cloud: Cloud) -> None:
    cloud.script({"states": [ACTIVE]}, {"states": [ACTIVE]})
    cloud.behave(steps=5, exits={"0.0": 2})
    code, _, said = cloud.run(*SWEEP, str(cloud.recipe))
    assert code == 1
    assert "failed: ds-1 ds-2" in said
    cloud.behave(steps=5)
    code, _, said = cloud.run(*SWEEP, str(cloud.recipe))
    assert code == 0, said
    before = len(cloud.started())
    code, _, said = cloud.run(*SWEEP, str(cloud.recipe))
    assert code == 0, said
    assert len(cloud.started()) == before  # finished workers take no machines again


@pytest.mark.slow
def test_the_sweep_killed_and_called_again(cloud: Cloud) -> None:
    cloud.script({"states": [ACTIVE]}, {"states": [ACTIVE]})
    cloud.behave(steps=5, stall={"0": 2})
    sweep = cloud.start(*SWEEP, str(cloud.recipe))
    end = time.monotonic() + 60
    while len(cloud.started()) < 2:
        assert time.monotonic() < end
        time.sleep(0.1)
    sweep.terminate()
    _, said = sweep.communicate(timeout=60)
    assert sweep.returncode == 42
    assert "delete.sh ds-1 ds-2" in said
    assert cloud.slices() == ["ftcot-ds-1", "ftcot-ds-2"]
    cloud.behave(steps=5)
    code, _, said = cloud.run(*SWEEP, str(cloud.recipe))
    assert code == 0, said
    assert len(cloud.started()) == 2
    assert not cloud.slices()


def test_wrong_numbers_of_workers(cloud: Cloud) -> None:
    recipe = str(cloud.recipe)
    for words, told in (
        (["sweep.sh", "--yes", "ds", recipe], "--workers says how many"),
        (["sweep.sh", "--yes", "--workers", "0", "ds", recipe], "1 to 99"),
        (["sweep.sh", "--yes", "--workers"], "--workers wants a value"),
        (["sweep.sh", "--yes", "--worker", "1/2", "ds", recipe], "unknown option --worker;"),
        (["run.sh", "--yes", "--workers", "2", "ds", recipe], "unknown option --workers;"),
        (["run.sh", "--yes", "--worker", "3/2", "ds", recipe], "give K/N"),
        (["run.sh", "--yes", "--worker", "2", "ds", recipe], "give K/N"),
        (["gke.sh", "--yes", "--worker", "1/2", "ds", recipe], "unknown option --worker;"),
    ):
        code, _, said = cloud.run(*words)
        assert code == 2, words
        assert told in said
    assert not cloud.calls()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_real_workers_claim_the_trials_of_one_grid(cloud: Cloud) -> None:
    """The real ftcot on two slices, both taken away on the way: each trial is trained and scored once."""
    cloud.recipe.write_text(TINY)
    cloud.environment |= {
        "FAKE_FTCOT": str(HERE / "real_ftcot.sh"),
        "FAKE_CHECKOUT": str(SCRIPTS.parent),
        "FAKE_PYTHON": sys.executable,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=1",
        "FTCOT_TPU_POLL": "1",
    }
    cloud.script({"states": [*[ACTIVE] * 8, *GONE]}, {"states": [ACTIVE]})
    grid = "sweep.axes=[{arm: [one arm], template: [ft_cot_token]}, {seed: [1, 2, 3, 4]}]"
    sweep = cloud.start(*SWEEP, str(cloud.recipe), grid, "sweep.lease_seconds=10")
    _, said = sweep.communicate(timeout=500)
    assert sweep.returncode == 0, said + log_of(cloud)
    rows = [json.loads(path.read_text()) for path in cloud.bucket("ds/results").glob("*.json")]
    assert sorted(row["recipe"]["seed"] for row in rows) == [1, 2, 3, 4]
    assert not list(cloud.bucket("ds").glob("failed/*"))
    logs = cloud.root / "home/.local/state/ftcot/ds"
    assert all("preemption 1 of at most 100" in (logs / f"{number}.txt").read_text() for number in "12")
