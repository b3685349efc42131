"""Job files: linted, of the schema, and starting the very command with the right share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from ftcot_jax.cli import main
from ftcot_jax.config import load_recipe
from ftcot_jax.sweeps.shares import Share, find_share
from tests.stages.test_road import TINY
from tests.tpu_scripts.cloud import shellcheck

NAMED = TINY.replace("name: tiny", "name: Main_GPT2.tiny")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "my recipe.yaml").write_text(NAMED)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def submit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str, code: int | None = None
) -> str:
    """What the command shows, or says where it fails."""
    monkeypatch.setattr(sys, "argv", ["ftcot", "sweep", "submit", "my recipe.yaml", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr()
    assert ended.value.code == (code or 0), said.err
    return said.err if code else said.out


def tools(folder: Path, **scripts: str) -> dict[str, str]:
    """An environment in which these commands are ours."""
    place = folder / "tools"
    place.mkdir()
    for name, text in scripts.items():
        (place / name).write_text(f"#!/bin/bash\n{text}\n")
        (place / name).chmod(0o755)
    return dict(os.environ) | {"PATH": f"{place}:{os.environ['PATH']}"}


@pytest.mark.parametrize(("gpus", "code", "times"), [(0, 0, "0"), (2, 42, "0"), (2, 42, "50"), (0, 1, "0")])
def test_slurm(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], gpus: int, code: int, times: str
) -> None:
    words = ["seed=3", "--to", "slurm", "--workers", "3", "--gpus", str(gpus), "--out", "/shared/a b"]
    shown = submit(monkeypatch, capsys, *words)
    file = folder / "main-gpt2-tiny.slurm.sbatch"
    assert shown.startswith(file.read_text())
    assert shown.endswith("to submit it:\nsbatch main-gpt2-tiny.slurm.sbatch\n")
    linted = subprocess.run([shellcheck(), str(file)], capture_output=True, text=True)
    assert linted.returncode == 0, linted.stdout
    asked = [line.removeprefix("#SBATCH --") for line in file.read_text().splitlines() if line.startswith("#SBATCH")]
    assert {"array=1-3", "ntasks=1", "requeue", "signal=TERM@120"} <= set(asked)
    assert ("gpus-per-task=2" in asked) == (gpus == 2)
    srun = f'printf "srun %s" "$XLA_FLAGS"; printf "|%s" "$@"; echo; exit {code}'
    environment = tools(folder, srun=srun, scontrol='echo "scontrol $*"', python="echo --flag-of-$3")
    environment |= {
        "SLURM_ARRAY_JOB_ID": "7",
        "SLURM_ARRAY_TASK_ID": "2",
        "SLURM_RESTART_COUNT": times,
        "XLA_FLAGS": "",
    }
    done = subprocess.run(["bash", str(file)], env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    flags = "--flag-of-gpu " if gpus else ""
    command = "--kill-on-bad-exit=0|ftcot|sweep|run|my recipe.yaml|seed=3|--out|/shared/a b"
    assert f"srun {flags}|{command}\n" in done.stdout
    assert ("scontrol requeue 7_2\n" in done.stdout) == (code == 42 and times == "0")


@pytest.mark.parametrize("gpus", [0, 8])
def test_k8s(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], gpus: int) -> None:
    words = ["seed=3", "--to", "k8s", "--workers", "5", "--gpus", str(gpus), "--image", "r.io/ftcot:1"]
    shown = submit(monkeypatch, capsys, *words, "--out", "gs://b/x")
    assert shown.endswith("kubectl apply -f main-gpt2-tiny.k8s.yaml\n")
    config, job = yaml.safe_load_all((folder / "main-gpt2-tiny.k8s.yaml").read_text())
    for part in (config, job):
        kubernetes_validate.validate(part, "1.37", strict=True)
    spec = job["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 5, 5)
    (container,) = spec["template"]["spec"]["containers"]
    assert container["command"] == ["ftcot", "sweep", "run", "/recipe/Main_GPT2.tiny.yaml", "--out", "gs://b/x"]
    assert (container.get("resources") or {"limits": {}})["limits"] == ({"nvidia.com/gpu": 8} if gpus else {})
    environment = {row["name"]: row["value"] for row in container["env"]}
    shares = [find_share(environment | {"JOB_COMPLETION_INDEX": str(index)}) for index in range(5)]
    assert shares == [Share(number, 5) for number in range(1, 6)]
    ((name, text),) = config["data"].items()
    (mount,), (volume,) = container["volumeMounts"], spec["template"]["spec"]["volumes"]
    assert f"{mount['mountPath']}/{name}" == container["command"][3]
    assert volume["configMap"]["name"] == config["metadata"]["name"]
    (folder / "carried.yaml").write_text(text)
    carried, trials = load_recipe("carried.yaml")
    told, wanted = load_recipe("my recipe.yaml", ["seed=3"])
    assert carried == told
    assert trials == wanted


def test_skypilot(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The keys used, each looked up by hand in the schema of SkyPilot 0.14.1, which is too heavy to install."""
    words = ["seed=3", "--to", "skypilot", "--workers", "2", "--accelerators", "H100:1", "--out", "gs://b/x"]
    shown = submit(monkeypatch, capsys, *words)
    task: Mapping[str, Any] = yaml.safe_load((folder / "main-gpt2-tiny.skypilot.yaml").read_text())
    assert set(task) == {"name", "workdir", "resources", "envs", "secrets", "setup", "run"}
    assert set(task["resources"]) == {"accelerators", "use_spot", "job_recovery"}
    assert task["resources"]["job_recovery"]["recover_on_exit_codes"] == [42]
    assert "'.[gcs,cuda]'" in task["setup"]
    started = shown.splitlines()[-1]
    environment = tools(folder, sky='printf "%s\\n" "$*"')
    done = subprocess.run(["bash", "-c", started], env=environment, capture_output=True, text=True)
    assert [line.split("--env ")[1] for line in done.stdout.splitlines()] == [
        f"FTCOT_WORKER={number} main-gpt2-tiny.skypilot.yaml" for number in (1, 2)
    ]
    envs = task["envs"] | {"FTCOT_WORKER": "2"}
    assert find_share(envs) == Share(2, 2)
    home = folder / "ftcot-env" / "bin"
    home.mkdir(parents=True)
    (home / "ftcot").write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    (home / "ftcot").chmod(0o755)
    ran = subprocess.run(
        ["bash", "-c", task["run"]], env=environment | {"HOME": str(folder)}, capture_output=True, text=True
    )
    assert ran.stdout.splitlines() == ["sweep", "run", "my recipe.yaml", "seed=3", "--out", "gs://b/x"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", "k8s", "--out", "gs://b/x"], "needs --image"),
        (["--to", "k8s", "--image", "i", "--out", "x"], "give gs://... or an absolute path"),
        (["--to", "skypilot", "--out", "/x"], "give gs://BUCKET/FOLDER"),
        (["seeed=3"], "unknown key 'seeed'"),
    ],
)
def test_what_cannot_work_is_one_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    told = submit(monkeypatch, capsys, *words, code=2)
    assert said in told
    assert len(told.splitlines()) == 1
    assert [path.name for path in folder.iterdir()] == ["my recipe.yaml"]
