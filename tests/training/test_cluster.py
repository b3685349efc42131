"""Several processes, really started: same results as one, and an end in bounded time when one of them fails or dies."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ftcot_jax.training.metric_log import read_metrics
from ftcot_jax.training.reporting import metrics_file
from tests.training.test_pool import Recorder, make_trials, run

ROOT = Path(__file__).parents[2]
Ended = list[tuple[int, str]]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        port: int = probe.getsockname()[1]
        return port


def start(
    command: list[str], count: int, devices: int = 1, numbers: list[int] | None = None, **environment: str
) -> list[subprocess.Popen[str]]:
    """Starts `count` processes of the same command, or only those of the given numbers."""
    shared = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "FTCOT_COORDINATOR": f"127.0.0.1:{free_port()}",
        "FTCOT_PROCESSES": str(count),
    }
    return [
        subprocess.Popen(
            [sys.executable, *command],
            cwd=ROOT,
            env=shared | {"FTCOT_PROCESS": str(number)} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in (range(count) if numbers is None else numbers)
    ]


def ends(processes: list[subprocess.Popen[str]], seconds: float = 200) -> Ended:
    """Exit code and standard error of each; none outlives the given time."""
    until = time.monotonic() + seconds
    try:
        return [(process.wait(max(0.1, until - time.monotonic())), process.communicate()[1]) for process in processes]
    finally:
        for process in processes:
            process.kill()


def train(folder: Path, count: int, devices: int = 1, seconds: float = 200, **told: Any) -> Ended:
    folder.mkdir(exist_ok=True)
    command = ["-m", "tests.training.cluster_worker", str(folder), json.dumps(told)]
    return ends(start(command, count, devices), seconds)


def losses(folder: Path) -> dict[str, list[float]]:
    return {trial.key: [row["loss"] for row in read_metrics(metrics_file(folder, trial))] for trial in make_trials()}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Recorder, Path]:
    folder = tmp_path_factory.mktemp("alone")
    return run(folder, Recorder(), make_trials()), folder


def assert_same(folder: Path, alone: tuple[Recorder, Path]) -> None:
    """Same losses and weights as of one process."""
    ours, theirs = losses(folder), losses(alone[1])
    for key in theirs:
        np.testing.assert_allclose(ours[key], theirs[key], rtol=1e-5)
        weights = np.load(folder / f"{key}.npz")
        for name, value in alone[0].done[key].items():
            np.testing.assert_allclose(weights[name], value, rtol=1e-5, atol=1e-6)


def test_two_processes_train_as_one(alone: tuple[Recorder, Path], tmp_path: Path) -> None:
    ended = train(tmp_path, 2, devices=2, mesh={"trial": 2, "data": -1}, every=9)
    assert [code for code, _ in ended] == [0, 0], ended
    assert_same(tmp_path, alone)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "devices", "mesh"),
    [
        (2, 1, {"data": 2}),
        (2, 1, {"fsdp": 2}),
        (2, 2, {"fsdp": 2, "tensor": 2}),
        (2, 1, {"tensor": 2}),
        (4, 1, {"trial": 2, "data": 2}),
        (4, 1, {"fsdp": 4}),
        (4, 2, {"trial": 2, "data": 2, "fsdp": 2}),
    ],
)
def test_every_axis_over_processes(
    count: int, devices: int, mesh: dict[str, int], alone: tuple[Recorder, Path], tmp_path: Path
) -> None:
    ended = train(tmp_path, count, devices, mesh=mesh)
    assert [code for code, _ in ended] == [0] * count, ended
    assert_same(tmp_path, alone)
