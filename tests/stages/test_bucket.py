"""Runs whose output folder is a bucket: the whole road, reuse, a machine that goes and another that takes over."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fake_gcs import FakeGcs
from tests.stages.test_road import ROOT, TINY, in_process
from tests.training.test_cluster import free_port

pytest.importorskip("gcsfs", reason="buckets need the gcs extra")

PROGRAMS = Path(tempfile.mkdtemp(prefix="ftcot-test-programs-"))  # compiled once for all machines
FTCOT = [sys.executable, "-c", "from ftcot_jax.cli import main; main()"]


class Machine:
    """A machine with a disk of its own, which is all that it has beside the bucket."""

    def __init__(self, fake: FakeGcs, disk: Path) -> None:
        self.disk = disk
        disk.mkdir()
        (disk / "tiny.yaml").write_text(TINY)
        own = {"FTCOT_CACHE": str(disk / "cache"), "HOME": str(disk), "JAX_COMPILATION_CACHE_DIR": str(PROGRAMS)}
        self.environment = os.environ | fake.environment | own

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
    shutil.rmtree(PROGRAMS, ignore_errors=True)
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


@pytest.mark.slow
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
    boards = [key for key in files if key.startswith("undisturbed/tensorboard/")]
    assert len([key for key in boards if key.endswith(".hparams")]) == len(boards) / 2 == 4
    assert len([key for key in files if "/metrics/" in key]) == 4
    assert not [key for key in files if "/checkpoints/" in key]
    for manifest in manifests:
        made = json.loads(files[manifest])
        folder = f"{manifest.removesuffix('manifest.json')}{made['at']}/"
        assert made["files"] == {
            key.removeprefix(folder): len(text) for key, text in files.items() if key.startswith(folder)
        }


@pytest.mark.slow
def test_another_machine_reuses_everything_and_fetches_what_it_reads(
    bucket: FakeGcs, undisturbed: str, machine: Callable[[str], Machine]
) -> None:
    before = bucket.files(under=undisturbed)
    other = machine("other")
    text, said = other.ftcot("run", "--out", "gs://bucket/undisturbed")
    assert " made gs://" not in said
    assert re.search(r"^4 of 4 trials are done already", said, flags=re.M)
    assert text.rstrip().endswith("report: gs://bucket/undisturbed/report/report.html")
    after = bucket.files(under=undisturbed)
    changed = {key for key in after if before.get(key) != after[key]}
    new = changed - {key for key in before if "/report/" in key or key.endswith("tiny.yaml")}
    assert all(key.startswith("undisturbed/workers/") for key in new)  # its own sign of life
    assert not list(other.disk.rglob("*.safetensors"))  # nobody asked for the weights
    damaged = next(key for key in after if key.endswith("outcomes.json"))
    kept = bucket.buckets["bucket"].pop(damaged)
    _, said = machine("third").ftcot("report", "--out", "gs://bucket/undisturbed", code=1)
    bucket.buckets["bucket"][damaged] = kept
    assert re.search(rf"^ftcot: gs://bucket/{damaged} is missing: damaged; delete gs://", said, flags=re.M)


@pytest.mark.slow
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


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_bucket_that_is_gone_for_a_while_costs_nothing(
    bucket: FakeGcs, undisturbed: str, machine: Callable[[str], Machine]
) -> None:
    out, ours = ("--out", "gs://bucket/unplugged"), machine("ours")
    process = ours.start("run", *out)
    assert _wait(bucket, lambda: bool(_checkpoints(bucket, "unplugged")), process)
    bucket.unplugged = ""
    said = process.communicate(timeout=400)[1]
    bucket.unplugged = None
    assert process.returncode == 1, said
    assert re.match(r"ftcot: gs://bucket/unplugged/\S+: cannot be reached \(.*\); `ftcot doctor", said.splitlines()[-1])
    assert "Traceback" not in said
    ours.ftcot("run", *out)
    assert students(bucket, "unplugged") == students(bucket, undisturbed)
    assert losses(bucket, "unplugged") == losses(bucket, undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_of_one_run_meet_in_the_bucket(
    bucket: FakeGcs, undisturbed: str, machine: Callable[[str], Machine]
) -> None:
    """Each has a disk of its own, as hosts of a pod have."""
    address = f"127.0.0.1:{free_port()}"
    started = []
    for number in range(2):
        host = machine(str(number))
        host.environment |= {
            "FTCOT_COORDINATOR": address,
            "FTCOT_PROCESSES": "2",
            "FTCOT_PROCESS": str(number),
            "XLA_FLAGS": "",
        }
        started.append(host.start("run", "mesh.data=-1", "--out", "gs://bucket/two"))
    said = [process.communicate(timeout=500)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    assert "made" not in said[1]
    ours, theirs = losses(bucket, "two"), losses(bucket, undisturbed)
    assert set(ours) == set(theirs)
    for name, rows in ours.items():
        np.testing.assert_allclose(rows, theirs[name], rtol=1e-5)
    assert "two/report/report.md" in bucket.files()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_workers_with_a_disk_each_share_a_sweep_in_the_bucket(
    bucket: FakeGcs, undisturbed: str, machine: Callable[[str], Machine]
) -> None:
    started = []
    for number in (1, 2):
        host = machine(str(number))
        command = [*FTCOT, "sweep", "run", str(host.disk / "tiny.yaml"), "--worker", f"{number}/2"]
        command += ["--out", "gs://bucket/shared"]
        started.append(
            subprocess.Popen(
                command, cwd=ROOT, env=host.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
    said = [process.communicate(timeout=500)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    assert sum(text.count("student: made") for text in said) == 4
    assert students(bucket, "shared") == students(bucket, undisturbed)
    assert losses(bucket, "shared") == losses(bucket, undisturbed)
    # From anywhere, by the folder alone: both seeds of the method, and all four trials.
    home, rows = machine("home"), r"\| cot \|[^|]+\|[^|]+\| \d+\.\d \d+\.\d \|"
    for words, shown in ((["report"], rows), (["sweep", "status"], "4 of 4|4 done")):
        command = [*FTCOT, *words, "gs://bucket/shared"]
        done = subprocess.run(command, cwd=ROOT, env=home.environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert re.search(shown, done.stdout), done.stdout


def test_what_is_paid_for_is_not_bought_into_a_bucket(
    bucket: FakeGcs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    for name, value in {**bucket.environment, "FTCOT_CACHE": str(tmp_path / "cache")}.items():
        monkeypatch.setenv(name, value)
    bought = ["teacher.loopback=null", "teacher.endpoint=http://127.0.0.1:9/v1", "teacher.model=m"]
    words = ["sample", str(tmp_path / "tiny.yaml"), *bought, "template=ft_cot_token", "sweep.axes=[{seed: [1]}]"]
    said = in_process(monkeypatch, capsys, 2, *words, "--out", "gs://bucket/paid")
    assert said.splitlines()[-1].startswith("ftcot: out=gs://bucket/paid: what a teacher sells is kept in files that")
    assert said.rstrip().endswith("set teacher.import to its completions.json")
    said = in_process(monkeypatch, capsys, 2, *words, "--out", "s3://bucket/paid")
    assert said == "ftcot: out=s3://bucket/paid: neither a folder nor a bucket's address, gs://BUCKET/FOLDER\n"
    said = in_process(monkeypatch, capsys, 1, *words, "--out", "gs://nowhere/paid")
    assert said.startswith("ftcot: gs://nowhere/paid/tiny.yaml: cannot be reached (no such bucket")


def _checkpoints(bucket: FakeGcs, run: str) -> list[str]:
    """The whole checkpoints in a run's folder."""
    return [key for key in bucket.files(under=f"{run}/pools/") if re.search(r"/checkpoints/\d+/commit_success", key)]


def _wait(bucket: FakeGcs, until: Callable[[], bool], process: subprocess.Popen[Any]) -> bool:
    deadline = time.monotonic() + 200
    while not until() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return until()
