"""The doctor: healthy, and each thing that can be wrong."""

from __future__ import annotations

import collections
import contextlib
import importlib.metadata
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ftcot_jax import doctor
from ftcot_jax.cli import main
from ftcot_jax.doctor import Finding, examine


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache folder is not touched."""
    monkeypatch.setenv("FTCOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    return tmp_path / "cache"


def findings(out: str | None, monkeypatch: pytest.MonkeyPatch, **environment: str) -> dict[str, Finding]:
    """All findings; the devices are not asked, which takes seconds."""
    monkeypatch.setattr(doctor, "_devices", lambda environment: Finding("devices", "none"))
    return {finding.what: finding for finding in examine(out, environment)}


def test_healthy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["ftcot", "doctor", "--out", str(tmp_path / "new")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    said = capsys.readouterr().out
    assert "WRONG" not in said
    for word in (
        "jaxlib",
        "orbax-checkpoint",
        "a tested pair",
        "8 x cpu",
        "GiB free of",
        "this one alone",
        "written, read and deleted",
    ):
        assert word in said
    assert list((tmp_path / "new").iterdir()) == []


def test_wrong_is_exit_code_1_and_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(doctor, "_devices", lambda environment: Finding("devices", "none"))
    monkeypatch.setattr(sys, "argv", ["ftcot", "doctor", "--out", str(tmp_path / "file")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    told = capsys.readouterr()
    assert "choose a folder you may write to" in told.out
    assert "1 of 16 things look wrong: output" in told.err


def test_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    seat = {"FTCOT_COORDINATOR": "host:1234", "FTCOT_PROCESSES": "4", "FTCOT_PROCESS": "2"}
    assert findings(None, monkeypatch, **seat)["processes"].seen == "number 2 of 4, joined at host:1234"
    seat.pop("FTCOT_PROCESS")
    assert "FTCOT_PROCESS is not set" in findings(None, monkeypatch, **seat)["processes"].wrong


def test_keys_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    found = findings(None, monkeypatch, OPENAI_API_KEY="sk-secret")
    assert found["keys"].seen.startswith("OPENAI_API_KEY set, HF_TOKEN not set")
    assert "sk-secret" not in str(found)


@pytest.mark.parametrize(
    ("installed", "wrong"),
    [
        ({"jaxlib": "0.9.0"}, "jax and jaxlib differ"),
        ({"libtpu": "0.0.1"}, "asks for libtpu"),
        ({}, ""),
    ],
)
def test_versions(installed: dict[str, str], wrong: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: installed.get(name) or real(name))
    found = findings(None, monkeypatch)["versions"]
    assert wrong in found.wrong
    assert bool(found.wrong) == bool(wrong)


def test_the_libtpu_that_jax_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = doctor._libtpu_of_jax()
    assert asked.startswith("0.0.")
    assert asked.endswith(".")
    real = importlib.metadata.version
    for version, wrong in ((f"{asked}1", False), (asked.rstrip("."), False), (f"{asked.rstrip('.')}7", True)):
        monkeypatch.setattr(
            importlib.metadata, "version", lambda name, v=version: v if name == "libtpu" else real(name)
        )
        assert bool(findings(None, monkeypatch)["versions"].wrong) == wrong, version


def test_little_memory_and_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda folder: usage(1, 1, 1 << 20))
    monkeypatch.setattr(doctor, "LEAST_MEMORY", 1 << 60)
    found = findings(str(tmp_path / "a/b"), monkeypatch)
    for what in ("memory", "disk of home", "disk of output"):
        assert found[what].wrong


def test_a_bucket_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*words: Any, **named: Any) -> None:
        raise PermissionError("403 no storage.objects.create access")

    monkeypatch.setattr(doctor.epath, "Path", refuse)
    found = doctor._access("output", "gs://bucket/x")
    assert "403 no storage.objects.create" in found.seen
    assert "roles/storage.objectAdmin" in found.wrong


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """No file grows beyond 64 KiB, as on a disk that is all but full: a line can be written, a program cannot."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with full_disk():
        found = findings(str(tmp_path / "out"), monkeypatch)
    assert "choose a folder you may write to, on a disk with room" in found["output"].wrong
    assert found["compile cache"].seen.startswith(f"{own_cache}/compiled: OSError")
    assert "JAX_COMPILATION_CACHE_DIR names another" in found["compile cache"].wrong
    assert not list(tmp_path.rglob(".ftcot-doctor*")), "what was written in part is left behind"


def test_the_compile_cache_is_where_runs_keep_programs(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ftcot_jax.stages.run import _keep_programs

    set_to: dict[str, Any] = {}
    monkeypatch.setattr("ftcot_jax.stages.run.jax.config.update", set_to.__setitem__)
    _keep_programs()
    assert set_to["jax_compilation_cache_dir"] == f"{own_cache}/compiled"
    assert findings(None, monkeypatch)["compile cache"].seen.startswith(f"{own_cache}/compiled: written")
    other = str(tmp_path / "other")
    found = findings(None, monkeypatch, JAX_COMPILATION_CACHE_DIR=other)["compile cache"]
    assert found.seen.startswith(f"{other}: written")


def test_students_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "hf"
    here = {"HF_HOME": str(home)}
    assert findings(None, monkeypatch, **here)["student cache"] == Finding(
        "student cache", f"0 students of the hub in {home}/hub"
    )
    assert "HF_HUB_OFFLINE forbids" in findings(None, monkeypatch, **here, HF_HUB_OFFLINE="1")["student cache"].wrong
    (home / "hub/models--google--flan-t5-small").mkdir(parents=True)
    found = findings(None, monkeypatch, **here, HF_HUB_OFFLINE="1")["student cache"]
    assert (found.seen[:10], found.wrong) == ("1 students", "")
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
    assert "HF_HUB_CACHE names another" in findings(None, monkeypatch, **here)["student cache"].wrong


def answer(monkeypatch: pytest.MonkeyPatch, out: str = "", said: str = "", code: int = 0) -> None:
    done = subprocess.CompletedProcess([], code, out, said)
    monkeypatch.setattr(doctor.subprocess, "run", lambda *words, **named: done)


CPU = 'ftcot-devices {"platform": "cpu", "kind": "cpu", "count": 1, "all": 1, "bytes": [[null, null]]}'
TPU = CPU.replace("cpu", "tpu", 1).replace("cpu", "TPU v5 lite").replace("1,", "4,", 1).replace("1,", "16,", 1)
TPU = TPU.replace("null, null", "1073741824, 17179869184")


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, TPU)
    assert doctor._devices({}) == Finding(
        "devices", "4 x TPU v5 lite (tpu), 16.0 GiB each, at most 1.0 GiB in use; 16 over all machines"
    )
    answer(monkeypatch, CPU)
    for has, environment, wrong in (
        ("cpu", {}, ""),
        ("tpu", {}, "pip install '.[tpu]'"),
        ("gpu", {}, "pip install '.[cuda]'"),
        ("gpu", {"JAX_PLATFORMS": "cpu"}, ""),
    ):
        monkeypatch.setattr(doctor, "accelerator", lambda has=has: has)
        found = doctor._devices(environment)
        assert wrong in found.wrong
        assert bool(found.wrong) == bool(wrong)
    answer(monkeypatch, said="noise\nThe TPU is already in use by process 7\n", code=1)
    assert "already in use by process 7" in doctor._devices({}).wrong


def test_an_unknown_flag_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Really asked: XLA ends the process that starts with it."""
    import os

    found = doctor._devices(os.environ | {"XLA_FLAGS": "--xla_no_such_flag=1"})
    assert "--xla_no_such_flag=1: take it out of XLA_FLAGS" in found.wrong


def test_devices_that_never_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "DEVICE_SECONDS", 0.2)
    monkeypatch.setattr(doctor, "PROBE", "import time; time.sleep(60)")
    found = doctor._devices({})
    assert "did not start within" in found.seen
    assert "all workers" in found.wrong


def test_flags_left_out_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "accelerator", lambda: "gpu")
    assert "latency_hiding" in findings(None, monkeypatch)["flags left out"].seen
    given = findings(None, monkeypatch, XLA_FLAGS="--xla_gpu_enable_latency_hiding_scheduler=true")
    assert "flags left out" not in given
