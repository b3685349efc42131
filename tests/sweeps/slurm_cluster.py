"""A real Slurm of one node: munged, slurmctld and slurmd of this machine, in a folder of the test."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

CONF = """
ClusterName=ftcot
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld}
SlurmdPort={slurmd}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,bf_interval=2
KillWait=2
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


@dataclass
class Slurm:
    """A running cluster; `environment` is what its commands need."""

    folder: Path
    environment: dict[str, str]

    def call(self, *words: str) -> str:
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True, timeout=60, cwd=self.folder)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout.strip()

    def queue(self) -> list[str]:
        """State of every task that has not ended."""
        return self.call("squeue", "--array", "--noheader", "--format=%i %T %r").splitlines()


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@contextlib.contextmanager
def real_slurm(folder: Path, cpus: int = 4) -> Iterator[Slurm]:
    """Starts the three daemons; skips, saying so, where Slurm is not installed or the user may not start it."""
    daemons = {name: shutil.which(name, path="/usr/sbin:/usr/bin") for name in ("munged", "slurmctld", "slurmd")}
    missing = [name for name, path in daemons.items() if path is None]
    if missing or os.getuid() != 0:
        pytest.skip(f"no Slurm here: {', '.join(missing)} missing (apt-get install slurm-wlm munge), or not root")
    host, (ctld, slurmd) = socket.gethostname().split(".")[0], _free_ports(2)
    for part in ("state", "spool"):
        (folder / part).mkdir(parents=True)
    (folder / "munge.key").write_bytes(secrets.token_bytes(128))
    (folder / "munge.key").chmod(0o600)
    (folder / "slurm.conf").write_text(CONF.format(host=host, ctld=ctld, slurmd=slurmd, folder=folder, cpus=cpus))
    (folder / "cgroup.conf").write_text(f"CgroupPlugin=cgroup/v1\nCgroupMountpoint={folder}/cgroup\n")
    environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
    munge = [f"--{part}-file={folder}/munge.{part}" for part in ("key", "pid", "seed", "log")]
    commands = [
        [daemons["munged"], "--foreground", "--force", f"--socket={folder}/munge.socket", *munge],
        [daemons["slurmctld"], "-D", "-f", f"{folder}/slurm.conf"],
        [daemons["slurmd"], "-D", "-N", host, "-f", f"{folder}/slurm.conf"],
    ]
    started: list[subprocess.Popen[bytes]] = []
    try:
        for number, command in enumerate(commands):
            with (folder / f"daemon{number}.txt").open("wb") as log:
                started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))  # type: ignore[arg-type]
            if number == 0:
                _wait_for((folder / "munge.socket").exists, folder)
        slurm = Slurm(folder, environment)
        _wait_for(lambda: _is_idle(slurm), folder)
        yield slurm
    finally:
        if len(started) == len(commands):  # jobs outlive the daemons
            subprocess.run(["scancel", "--user=root", "--signal=KILL", "--full"], env=environment, capture_output=True)
            subprocess.run(["scancel", "--user=root"], env=environment, capture_output=True)
        for process in reversed(started):
            process.terminate()
        for process in started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()


def _is_idle(slurm: Slurm) -> bool:
    done = subprocess.run(["sinfo", "-h", "-o", "%T"], env=slurm.environment, capture_output=True, text=True)
    return done.stdout.strip() == "idle"


def _wait_for(ready: Callable[[], bool], folder: Path) -> None:
    end = time.monotonic() + 60
    while not ready():
        logs = {
            path.name: path.read_text()[-800:] for path in sorted(folder.glob("*.txt")) + sorted(folder.glob("*.log"))
        }
        assert time.monotonic() < end, logs
        time.sleep(0.2)
