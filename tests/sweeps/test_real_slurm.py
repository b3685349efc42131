"""An array of three workers on a real Slurm: one killed, one told to stop and queued again; each trial ends once."""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.stages.test_road import ROOT, ftcot
from tests.stages.test_sweep_workers import FEW, claimed, ends, results, wait_until, write
from tests.sweeps.slurm_cluster import Slurm, real_slurm

LONG = (
    FEW.replace("steps: 12", "steps: 150")
    .replace("checkpoints: {steps: 3}", "checkpoints: {steps: 50}")
    .replace("{seed: [1, 2, 3]}", "{seed: [1, 2, 3, 4, 5]}")
)
TRIALS = 10


def sessions(out: Path) -> dict[str, dict[str, Any]]:
    """What each worker last wrote, by its share; the last to come where it came twice."""
    files = sorted((out / "workers").glob("[!.]*.json"), key=lambda path: path.stat().st_mtime)
    return {path.name.split("-")[0]: json.loads(path.read_text()) for path in files}


def at_work(out: Path, share: str) -> bool:
    """Whether a worker is in the middle of its trials."""
    return bool(list(out.glob(f"pools/*-{share}-*/metrics/*.jsonl")))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_array_of_workers(tmp_path: Path) -> None:
    recipe, out = write(tmp_path, LONG), tmp_path / "out"
    ftcot("sweep", "run", str(recipe), "--out", str(tmp_path / "alone"))
    job = tmp_path / "job.sbatch"
    words = ["--to", "slurm", "--workers", "3", "--gpus", "0", "--out", str(out), "--file", str(job)]
    ftcot("sweep", "submit", str(recipe), *words)
    environment = tmp_path / "env" / "bin"
    environment.mkdir(parents=True)
    program = environment / "ftcot"
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from ftcot_jax.cli import main; main()"
    program.write_text(f'#!/bin/bash\nexec {sys.executable} -c "{code}" "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    with real_slurm(tmp_path / "slurm") as slurm:
        slurm.environment["FTCOT_ENV"] = str(environment.parent)
        array = slurm.call("sbatch", "--parsable", str(job))
        wait_until(lambda: at_work(out, "w2of3"))
        os.kill(sessions(out)["w2of3"]["machine"]["process"], signal.SIGKILL)
        wait_until(lambda: at_work(out, "w3of3"))
        slurm.call("scancel", "--signal=TERM", f"{array}_3")
        wait_until(lambda: _again(slurm, array))
        wait_until(lambda: not slurm.queue(), 400)
        logs = {path.name: path.read_text() for path in (tmp_path / "slurm").glob("ftcot-tiny-*.log")}
    assert len(results(out)) == TRIALS, logs
    assert ends(out) == ends(tmp_path / "alone")
    assert "preempted: back into the queue (time 1)" in logs["ftcot-tiny-3.log"]
    assert not any("REQUEUE" in logs[f"ftcot-tiny-{number}.log"] for number in (1, 2)), logs
    assert "going on from what w" in "".join(logs.values())
    assert claimed(out) <= 1  # what the killed one held, which others have followed


def _again(slurm: Slurm, array: str) -> bool:
    """Lets the task that is back in the queue start now; Slurm would wait a while."""
    waiting = [row for row in slurm.queue() if row.startswith(f"{array}_3 PENDING")]
    if waiting:
        slurm.call("scontrol", "update", f"JobId={array}_3", "StartTime=now")
    return bool(waiting) or not any(row.startswith(f"{array}_3 ") for row in slurm.queue())
