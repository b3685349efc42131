"""Runs whose output folder is a bucket: the whole road, reuse, a machine that goes and another that takes over."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fake_gcs import FakeGcs
from tests.stages.test_road import ROOT, TINY

pytest.importorskip("gcsfs", reason="buckets need the gcs extra")

FTCOT = [sys.executable, "-c", "from ftcot_jax.cli import main; main()"]


class Machine:
    """A machine with a disk of its own, which is all that it has beside the bucket."""

    def __init__(self, fake: FakeGcs, disk: Path) -> None:
        self.disk = disk
        disk.mkdir()
        (disk / "tiny.yaml").write_text(TINY)
        self.environment = os.environ | fake.environment | {"FTCOT_CACHE": str(disk / "cache"), "HOME": str(disk)}

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [*FTCOT, words[0], str(self.disk / "tiny.yaml"), *words[1:]]
        return subprocess.Popen(
            command, cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def ftcot(self, *words: str, code: int = 0) -> tuple[str, str]:
        """What a command said, on standard output and standard error."""
        process = self.start(*words)
        said = process.communicate(timeout=280)
        assert process.returncode == code, said[1]
        return said

    def go(self) -> None:
        """The disk is lost."""
        shutil.rmtree(self.disk)


@pytest.fixture(scope="module")
def bucket() -> Iterator[FakeGcs]:
    with FakeGcs() as fake:
        yield fake
    assert not fake.strange


@pytest.fixture(scope="module")
def undisturbed(bucket: FakeGcs, tmp_path_factory: pytest.TempPathFactory) -> str:
    machine = Machine(bucket, tmp_path_factory.mktemp("undisturbed") / "disk")
    machine.ftcot("run", "--out", "gs://bucket/undisturbed")
    machine.go()
    return "undisturbed"


@pytest.fixture
def machine(bucket: FakeGcs, tmp_path: Path) -> Callable[[str], Machine]:
    return lambda name: Machine(bucket, tmp_path / name)


def students(bucket: FakeGcs, run: str) -> dict[str, bytes]:
    """The weights in a run's folder, by address."""
    files = bucket.files(under=f"{run}/artifacts/student-").items()
    return {key.split("/")[2]: content for key, content in files if key.endswith("model.safetensors")}


def losses(bucket: FakeGcs, run: str) -> dict[str, list[tuple[int, float]]]:
    """Every step's loss by trial, as the students' own logs have them."""
    files = bucket.files(under=f"{run}/artifacts/student-").items()
    logs = {key.split("/")[2]: content for key, content in files if key.endswith("metrics.jsonl")}
    rows = {name: [json.loads(line) for line in text.splitlines()] for name, text in logs.items()}
    return {name: [(row["step"], row["loss"]) for row in log] for name, log in rows.items()}


def test_all_of_a_run_is_in_the_bucket(bucket: FakeGcs, undisturbed: str) -> None:
    files = bucket.files(under=f"{undisturbed}/")
    manifests = [key for key in files if key.endswith("/manifest.json")]
    kinds = sorted(re.sub(r"-[0-9a-f]{12}$", "", key.split("/")[2]) for key in manifests)
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "completions": 2,
        "pairs": 4,
        "records": 4,
        "student": 4,
        "scores": 4,
    }
    assert {"undisturbed/tiny.yaml", "undisturbed/report/report.md", "undisturbed/report/trials.json"} <= set(files)
    assert len([key for key in files if key.startswith("undisturbed/tensorboard/")]) == 4
    assert len([key for key in files if "/metrics/" in key]) == 4
    assert not [key for key in files if "/checkpoints/" in key]
    for manifest in manifests:
        made = json.loads(files[manifest])
        folder = f"{manifest.removesuffix('manifest.json')}{made['at']}/"
        assert made["files"] == {
            key.removeprefix(folder): len(text) for key, text in files.items() if key.startswith(folder)
        }


def test_another_machine_reuses_everything_and_fetches_what_it_reads(
    bucket: FakeGcs, undisturbed: str, machine: Callable[[str], Machine]
) -> None:
    before = bucket.files(under=undisturbed)
    other = machine("other")
    text, said = other.ftcot("run", "--out", "gs://bucket/undisturbed")
    assert " made gs://" not in said
    assert len(re.findall(r"^train: reusing gs://bucket/undisturbed/", said, flags=re.M)) == 4
    assert text.rstrip().endswith("report: gs://bucket/undisturbed/report/report.md")
    after = bucket.files(under=undisturbed)
    assert {key for key in after if before.get(key) != after[key]} <= {
        key for key in before if "/report/" in key or key.endswith("tiny.yaml")
    }
    assert not list(other.disk.rglob("*.safetensors"))  # nobody asked for the weights
    damaged = next(key for key in after if key.endswith("outcomes.json"))
    kept = bucket.buckets["bucket"].pop(damaged)
    _, said = machine("third").ftcot("report", "--out", "gs://bucket/undisturbed", code=1)
    bucket.buckets["bucket"][damaged] = kept
    assert re.search(rf"^ftcot: gs://bucket/{damaged} is missing: damaged; delete gs://", said, flags=re.M)


def test_a_machine_that_goes_is_taken_over_by_one_with_an_empty_disk(
    bucket: FakeGcs, undisturbed: str, machine: Callable[[str], Machine]
) -> None:
    out, first = ("--out", "gs://bucket/resumed"), machine("first")
    process = first.start("run", *out)
    seen = _wait(bucket, lambda: bool(_checkpoints(bucket, "resumed")), process)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=200)[1]
    assert seen
    assert process.returncode == 42, said
    assert said.splitlines()[-1] == "ftcot: stopped by SIGTERM and saved; run the same command to go on"
    assert _checkpoints(bucket, "resumed")
    kept = bucket.files(under="resumed/pools/")
    logs = {key.split("/")[-1]: text for key, text in kept.items() if "/metrics/" in key}
    first.go()
    _, said = machine("second").ftcot("run", *out)
    final = bucket.files(under="resumed/pools/")
    assert logs
    for name, log in logs.items():  # with their times, which nobody could make again
        assert any(text.startswith(log) for key, text in final.items() if key.endswith(name))
    assert students(bucket, "resumed") == students(bucket, undisturbed)
    assert losses(bucket, "resumed") == losses(bucket, undisturbed)
    assert not _checkpoints(bucket, "resumed")


def _checkpoints(bucket: FakeGcs, run: str) -> list[str]:
    """The whole checkpoints in a run's folder."""
    return [key for key in bucket.files(under=f"{run}/pools/") if re.search(r"/checkpoints/\d+/commit_success", key)]


def _wait(bucket: FakeGcs, until: Callable[[], bool], process: subprocess.Popen[Any]) -> bool:
    deadline = time.monotonic() + 200
    while not until() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return until()
