"""Several processes, really started: same results as one, and an end in bounded time when one of them fails or dies."""

from __future__ import annotations

import errno
import http.server
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from etils import epath
from jax._src.clusters import cloud_tpu_cluster

from ftcot_jax.errors import FtcotError, Preempted, UsageError
from ftcot_jax.training.checkpoints import Checkpoints
from ftcot_jax.training.cluster import Seat, find_seat, join
from ftcot_jax.training.mesh import make_mesh
from ftcot_jax.training.metric_log import read_metrics
from ftcot_jax.training.processes import ALONE, Processes
from ftcot_jax.training.reporting import metrics_file
from ftcot_jax.training.settings import MeshSettings
from ftcot_jax.training.slots import empty_slots
from ftcot_jax.training.step import new_state
from tests.training.test_pool import STUDENT, Recorder, make_trials, run

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


def ends(processes: list[subprocess.Popen[str]], seconds: float) -> Ended:
    """Exit code and standard error of each; none outlives the given time."""
    until = time.monotonic() + seconds
    try:
        return [(process.wait(max(0.1, until - time.monotonic())), process.communicate()[1]) for process in processes]
    finally:
        for process in processes:
            process.kill()


def train(folder: Path, count: int, devices: int = 1, seconds: float = 400, **told: Any) -> Ended:
    folder.mkdir(exist_ok=True)
    command = ["-m", "tests.training.cluster_worker", str(folder), json.dumps(told)]
    return ends(start(command, count, devices, http_proxy="http://127.0.0.1:9"), seconds)  # clusters have proxies


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
@pytest.mark.timeout(900)
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


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("count", "fault", "said"),
    [
        (2, [0, 4, "SIGKILL"], r"process 0 of 2 \(on 127\.0\.0\.1\) died"),
        (2, [1, 4, "SIGKILL"], r"process 1 of 2 \(on {host}\) died"),
        (4, [2, 4, "SIGKILL"], r"process 2 of 4 \(on {host}\) died"),
        (2, [1, 4, "SIGSTOP"], r"process 1 of 2 \(on {host}\) gave no sign of life for 8 s"),
        (2, [0, 4, "SIGSTOP"], r"process 0 of 2 \(on 127\.0\.0\.1\) gave no sign of life for 8 s"),
        (2, [1, 4, "raise"], r"process 1 of 2 \(on {host}\): unexpected RuntimeError: a bug of its own \(.*\)"),
        (2, [0, 4, "refuse"], r"process 0 of 2 \(on {host}\): records-1: row 3 is damaged"),
    ],
)
def test_when_one_fails_or_dies_all_end_and_say_who(count: int, fault: list[Any], said: str, tmp_path: Path) -> None:
    command = ["-m", "tests.training.cluster_worker", str(tmp_path), json.dumps({"mesh": {"data": -1}, "fault": fault})]
    processes = start(command, count, FTCOT_SILENCE_SECONDS="8")
    victim = processes.pop(fault[0])
    try:
        if fault[2] == "SIGSTOP":
            wait_for_state(victim, "T")
        else:
            victim.wait(200)
        began = time.monotonic()
        ended = ends(processes, 40)
        assert time.monotonic() - began < 20
    finally:
        victim.kill()
    said = said.format(host=re.escape(socket.gethostname()))
    for code, errors in ended:
        assert code == 1
        assert re.search(rf"^ftcot: {said}; process \d ends too$", errors, flags=re.M), errors
        assert "Traceback" not in errors
        assert "Check failure" not in errors  # JAX's own end of a survivor: a stack trace that names nobody
    if fault[2] in ("raise", "refuse"):
        assert victim.returncode == 1
        assert victim.stderr is not None
        assert victim.stderr.read().count("ftcot: ") == 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_one_that_hangs_is_named_while_it_is_waited_for(tmp_path: Path) -> None:
    told = json.dumps({"mesh": {"data": -1}, "fault": [1, 9, "hang"]})
    processes = start(["-m", "tests.training.cluster_worker", str(tmp_path), told], 2)
    watch = processes[0].stderr
    assert watch is not None
    try:
        line = next(line for line in watch if "stays behind" in line)
        assert re.match(r"no step for \d+ s: waiting for process 1 of 2 \(on \S+\), which stays behind", line)
    finally:
        for process in processes:
            process.kill()


def wait_for_state(process: subprocess.Popen[str], state: str, seconds: float = 200) -> None:
    """Waits until the kernel says that the process is in this state."""
    until = time.monotonic() + seconds
    while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != state:
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("before", "after"), [(2, 1), (2, 4), (4, 2)])
def test_sigterm_to_one_saves_on_all_and_other_numbers_go_on(
    before: int, after: int, alone: tuple[Recorder, Path], tmp_path: Path
) -> None:
    stopped = train(tmp_path, before, mesh={"trial": 2, "data": -1}, fault=[1, 6, "SIGTERM"])
    assert [code for code, _ in stopped] == [42] * before, stopped
    assert all("stopped by SIGTERM on process 1 and saved; run the same command" in errors for _, errors in stopped)
    saved = [path for path in (tmp_path / "checkpoints").iterdir() if path.name.isdigit()]
    assert len(saved) == 1
    left = [trial.key for trial in make_trials() if not (tmp_path / f"{trial.key}.npz").exists()]
    assert len(left) >= 3
    if after == 1:
        second = run(tmp_path, Recorder(), [trial for trial in make_trials() if trial.key in left])
        assert ("trial0", 0) not in second.looked  # it went on, and did not start again
        for key in left:
            np.savez(tmp_path / f"{key}.npz", **second.done[key])
    else:
        ended = train(tmp_path, after, mesh={"fsdp": -1})
        assert [code for code, _ in ended] == [0] * after, ended
    assert_same(tmp_path, alone)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_four_processes_go_on_from_one(alone: tuple[Recorder, Path], tmp_path: Path) -> None:
    first = Recorder(stop_at=("trial1", 4))
    with pytest.raises(Preempted):
        run(tmp_path, first, make_trials())
    for key, weights in first.done.items():
        np.savez(tmp_path / f"{key}.npz", **weights)
    ended = train(tmp_path, 4, mesh={"data": 2, "fsdp": 2})
    assert [code for code, _ in ended] == [0] * 4, ended
    assert_same(tmp_path, alone)


JOIN = ["-c", "import sys; from ftcot_jax.cli import _guarded; from ftcot_jax.training.cluster import join; "
        "sys.exit(_guarded(join))"]  # fmt: skip


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ([0, 2], r"of 3 processes, 1 did not come within 6 s; start one with each number"),
        ([2], r"process 2: no answer from process 0 at 127\.0\.0\.1:\d+ for 6 s \(Connection refused\)"),
        ([0, 1, 1], r"process 1 was started twice, on {host} and on {host}; give every process its own number"),
    ],
)
def test_who_does_not_come_is_named(numbers: list[int], said: str) -> None:
    began = time.monotonic()
    ended = ends(start(JOIN, 3, numbers=numbers, FTCOT_JOIN_SECONDS="6"), 60)
    assert time.monotonic() - began < 40
    for code, errors in ended:
        assert code in (1, 2)
        assert re.search("^ftcot: " + said.format(host=re.escape(socket.gethostname())), errors, flags=re.M), errors
        assert "Traceback" not in errors


LINE = """
import socket, sys, threading
from ftcot_jax.training.hub import Hub
from ftcot_jax.training.processes import Linked
port, found, met = int(sys.argv[1]), {}, {}
Hub(port, 3, 20, 20, {"told": 7}, print)
for words in (b"GET / HTTP/1.1\\r\\n", b'{"process": 9, "of": 3, "host": "x"}\\n', b""):  # strangers hurt nobody
    with socket.create_connection(("localhost", port)) as stranger:
        stranger.sendall(words)
def join(number):
    found[number] = Linked(number, 3, ("localhost", port), 20, 20)
    met[number] = [found[number].gather("first", number * 10), found[number].decide("second", number)]
threads = [threading.Thread(target=join, args=(number,)) for number in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(found[1].note, dict(sorted(met.items())), flush=True)
threading.Thread(target=found[1].gather, args=("pool a",)).start()
found[2].gather("pool b")
"""


def test_the_line_gathers_and_ends_those_who_part(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LINE, str(free_port())]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 1
    assert done.stdout == f"{ {'told': 7} } { {number: [[0, 10, 20], 0] for number in range(3)} }\n"
    assert re.search("^ftcot: process 1 is at 'pool a' and process 2 at 'pool b': they do not do", done.stderr, re.M)


STOPPED = """
import os
from ftcot_jax.stage_command import explain
from ftcot_jax.training.cluster import join
processes = join()
try:
    if processes.number == 1:
        os.kill(os.getpid(), 15)
    processes.gather("never")
except Exception as error:
    processes.fail(*explain(error))
"""


def test_sigterm_outside_the_loop_ends_all_resumable() -> None:
    first, second = ends(start(["-c", STOPPED], 2), 100)
    assert (first[0], second[0]) == (42, 42)
    assert "stopped by SIGTERM; run the same command to go on; process 0 ends too" in first[1]
    assert re.search("^ftcot: stopped by SIGTERM; run the same command to go on$", second[1], flags=re.M)


class Two(Processes):
    """Process 0 of two, of which the other cannot read checkpoint 6."""

    count = 2

    def gather(self, what: str, value: Any = None) -> list[Any]:
        return [value, "bad block" if what == "checkpoint 6" else value]


def test_what_one_process_cannot_read_or_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mesh, lines = make_mesh(MeshSettings()), []
    like = new_state(STUDENT.init(0), make_trials()[0].hyper)
    checkpoints = Checkpoints(epath.Path(tmp_path), "tiny", lines.append, 2, Two())
    for tick in (3, 6):
        checkpoints.save(tick, empty_slots(like, 1, mesh, ()), {"slots": [None]})
    found = checkpoints.restore(like, mesh, ())
    assert found is not None
    assert found[0] == 3
    assert len(lines) == 1
    assert "6 is damaged (bad block)" in lines[0]

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoints._checkpointer, "save_checkpointables_async", full)
    with pytest.raises(FtcotError, match=r"the disk of \S+ is full; the one before it is whole: make room"):
        checkpoints.save(9, empty_slots(like, 1, mesh, ()), {"slots": [None]})


PLAIN = {"FTCOT_COORDINATOR": "node1:4000", "FTCOT_PROCESSES": "4", "FTCOT_PROCESS": "3"}
SLURM = {
    "SLURM_JOB_ID": "4099",
    "SLURM_STEP_NODELIST": "node[07-09],gpu1",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
    "SLURM_STEP_TASKS_PER_NODE": "1(x4)",
}


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in [name for name in os.environ if name.startswith(("FTCOT_PROC", "FTCOT_COORD", "SLURM_", "TPU_"))]:
        monkeypatch.delenv(name)
    return monkeypatch


def seat(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> Seat | None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return find_seat(os.environ)


def test_alone_nothing_is_joined(clean: pytest.MonkeyPatch) -> None:
    assert find_seat(os.environ) is None
    assert join() is ALONE
    assert ALONE.gather("anything", 3) == [3]


def test_the_plain_environment(clean: pytest.MonkeyPatch) -> None:
    assert seat(clean, PLAIN) == Seat("node1", 4000, 4, 3)
    assert seat(clean, {"FTCOT_COORDINATOR": "[fd00::1]:4000"}) == Seat("fd00::1", 4000, 4, 3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"FTCOT_PROCESS": ""}, "FTCOT_PROCESS is not set; set all of"),
        ({"FTCOT_PROCESS": "4"}, "FTCOT_PROCESS is '4'; of 4 processes it must be one of 0 to 3"),
        ({"FTCOT_PROCESS": "-1"}, "FTCOT_PROCESS is '-1'"),
        ({"FTCOT_PROCESSES": "four"}, "FTCOT_PROCESSES is 'four'; it must be the number"),
        ({"FTCOT_COORDINATOR": "node1"}, "FTCOT_COORDINATOR is 'node1'; it must be HOST:PORT"),
        ({"FTCOT_COORDINATOR": "node1:99999"}, "it must be HOST:PORT"),
    ],
)
def test_a_wrong_environment_is_refused(clean: pytest.MonkeyPatch, change: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)) as refused:
        seat(clean, PLAIN | change)
    assert refused.value.exit_code == 2


def test_slurm(clean: pytest.MonkeyPatch) -> None:
    assert seat(clean, SLURM) == Seat("node07", 61440 + 4099 % 4096, 4, 2)  # the port comes of the job's number
    # Several tasks on a machine have one of its devices each.
    assert seat(clean, {"SLURM_STEP_TASKS_PER_NODE": "12(x2)", "SLURM_LOCALID": "1"}) == Seat(
        "node07", 61443, 4, 2, [1]
    )
    assert seat(clean, PLAIN) == Seat("node1", 4000, 4, 3)  # who says it himself is heard first


@pytest.mark.parametrize(
    "change",
    [
        {"SLURM_NTASKS": "1"},  # one task, or `srun --pty bash`
        {"FTCOT_PROCESSES": "1"},  # tasks that have nothing to do with each other
    ],
)
def test_a_single_task_of_slurm_is_left_alone(clean: pytest.MonkeyPatch, change: dict[str, str]) -> None:
    assert seat(clean, SLURM | change) is None


def test_a_batch_script_without_srun_is_left_alone(clean: pytest.MonkeyPatch) -> None:
    assert seat(clean, {name: SLURM[name] for name in SLURM if name != "SLURM_STEP_NODELIST"}) is None


class _Metadata(http.server.BaseHTTPRequestHandler):
    """What a TPU VM's metadata server says, of worker 1 of 2."""

    said: ClassVar[dict[str, str]] = {
        "agent-worker-number": "1",
        "worker-network-endpoints": "unknown:unknown:127.0.0.1,unknown:unknown:127.0.0.2",
        "tpu-env": "ACCELERATOR_TYPE: 'v4-16'\n",
    }

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.said[self.path.rpartition("/")[2]].encode())

    def log_message(self, *_: Any) -> None:
        pass


def test_tpu_metadata(clean: pytest.MonkeyPatch) -> None:
    clean.setattr(cloud_tpu_cluster, "running_in_cloud_tpu_vm", True)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Metadata) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        clean.setenv("GCE_METADATA_IP", f"127.0.0.1:{server.server_port}")
        assert find_seat(os.environ) == Seat("127.0.0.1", 8482, 2, 1)
        server.shutdown()
    refused = seat(clean, {"FTCOT_PROCESSES": "1"})
    assert refused is None


def test_tpu_variables(clean: pytest.MonkeyPatch) -> None:
    clean.setattr(cloud_tpu_cluster, "running_in_cloud_tpu_vm", True)
    workers = {"TPU_WORKER_HOSTNAMES": "localhost,127.0.0.2", "TPU_WORKER_ID": "1", "TPU_SKIP_MDS_QUERY": "1"}
    slices = {"MEGASCALE_NUM_SLICES": "2", "MEGASCALE_SLICE_ID": "1", "MEGASCALE_COORDINATOR_ADDRESS": "localhost:80"}
    assert seat(clean, workers | slices) == Seat("localhost", 8482, 4, 3)


def test_unreadable_metadata_is_said(clean: pytest.MonkeyPatch) -> None:
    clean.setattr(cloud_tpu_cluster, "running_in_cloud_tpu_vm", True)
    clean.setenv("GCE_METADATA_IP", f"127.0.0.1:{free_port()}")
    with pytest.raises(FtcotError, match=r"gcetpu: cannot tell which of several processes this is .*FTCOT_PROCESSES=1"):
        find_seat(os.environ)
