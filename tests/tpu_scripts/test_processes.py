"""The real ftcot as several processes, started by the scripts exactly as on the workers of a TPU slice."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from tests.stages.test_road import TINY
from tests.tpu_scripts.cloud import ACTIVE, SCRIPTS, Cloud

HERE = Path(__file__).parent


def prepare(cloud: Cloud, workers: int) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    cloud.recipe.write_text(TINY)
    cloud.environment |= {
        "FAKE_FTCOT": str(HERE / "real_ftcot.sh"),
        "FAKE_CHECKOUT": str(SCRIPTS.parent),
        "FAKE_PYTHON": sys.executable,
        "FAKE_SEATS": f"127.0.0.1:{port}/{workers}",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=1",
        "FTCOT_TPU_POLL": "1",
    }
    cloud.script({"states": [ACTIVE], "workers": workers})


def log_of(cloud: Cloud) -> str:
    return "\n".join(path.read_text() for path in cloud.root.glob("*.machine*/ftcot/log.txt"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_four_workers_train_one_run(cloud: Cloud) -> None:
    prepare(cloud, 4)
    words = ["sweep.axes=[{arm: [one arm], template: [ft_cot_token]}, {seed: [1, 2]}]", "mesh.trial=2", "mesh.data=2"]
    process = cloud.start("run.sh", "--yes", "d3", str(cloud.recipe), *words, FTCOT_TPU_TYPE="v5litepod-16")
    _, said = process.communicate(timeout=500)
    assert process.returncode == 0, said + log_of(cloud)
    trials = json.loads(cloud.bucket("d3/report/trials.json").read_text())
    assert len(trials) == 2, trials
    assert {row["arm"] for row in trials} == {"one arm"}  # brackets and spaces arrived whole
    assert log_of(cloud).count("ftcot ended with exit code 0") == 4


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_workers_told_to_stop_save_and_go_on(cloud: Cloud) -> None:
    """SIGTERM as a machine gets it at its end: exit code 42 of all, and the same driver finishes the run."""
    prepare(cloud, 2)
    cloud.environment["FTCOT_TPU_TYPE"] = "v4-16"
    process = cloud.start(
        "run.sh", "--yes", "d3", str(cloud.recipe), "sweep.axes=[{seed: [1]}]", "train.steps=400", "mesh.data=2"
    )
    end = time.monotonic() + 200
    while not list(cloud.bucket("d3").glob("pools/*/*")) or "step" not in log_of(cloud):
        assert process.poll() is None, process.communicate()[1] + log_of(cloud)
        assert time.monotonic() < end, log_of(cloud)
        time.sleep(0.2)
    pid = int((cloud.root / "ftcot-d3.machine0.1/ftcot/pid").read_text())
    os.kill(pid, signal.SIGTERM)
    _, said = process.communicate(timeout=400)
    assert process.returncode == 0, said + log_of(cloud)
    assert "preemption 1 of at most 100" in said
    assert log_of(cloud).count("ftcot ended with exit code 42") == 2
    rows = json.loads(cloud.bucket("d3/report/trials.json").read_text())
    assert len(rows) == 1
