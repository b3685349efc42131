"""What runs on a worker: arguments, secrets, signals, reboots."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import shutil
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tpu_scripts.cloud import ACTIVE, FAKE, SCRIPTS, Cloud

ODD = [
    "sweep.axes=[{arm: [a, 'b c']}, {seed: [1, 2]}]",
    'name=it\'s "$HOME" `id` \\ *',
    "x=tab\tnew\nline",
    "y=",
    "z=é ü",
]


def on_worker(cloud: Cloud, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs worker.sh as on machine 0."""
    machine = cloud.root / "machine"
    (machine / "ftcot/venv/bin").mkdir(parents=True, exist_ok=True)
    shutil.copy(FAKE / "ftcot", machine / "ftcot/venv/bin/ftcot")
    here = {"FTCOT_WORK": str(machine / "ftcot"), "FAKE_MACHINE": str(machine), "FAKE_NUMBER": "0", "FAKE_WORKER": "0"}
    return subprocess.run(
        ["bash", str(SCRIPTS / words[0]), *words[1:]],
        env=cloud.environment | here | environment,
        capture_output=True,
        text=True,
        timeout=60,
        start_new_session=True,
    )


def launch(cloud: Cloud, *overrides: str) -> str:
    """Brings a job to the bucket, with its source counted as installed."""
    cloud.script({"states": [ACTIVE], "unreachable": 99}, secrets={"my-key": "sk-very-secret"})
    cloud.run("setup.sh", "d64", str(cloud.recipe), *overrides, FTCOT_TPU_SECRETS="OPENAI_API_KEY=my-key")
    source = cloud.bucket("d64/launch/source.tar.gz")
    digest = subprocess.run(["sha256sum"], stdin=source.open("rb"), capture_output=True, text=True).stdout
    (cloud.root / "machine/ftcot").mkdir(parents=True, exist_ok=True)
    (cloud.root / "machine/ftcot/installed").write_text(digest)
    return "gs://my-bucket/d64/launch"


def state(cloud: Cloud) -> str:
    return on_worker(cloud, "worker.sh", "status").stdout.split()[-1]


def wait_for(cloud: Cloud, wanted: str) -> None:
    end = time.monotonic() + 30
    while state(cloud) != wanted:
        assert time.monotonic() < end, f"{state(cloud)}, not {wanted}"
        time.sleep(0.1)


@pytest.fixture(autouse=True)
def _end_jobs(cloud: Cloud) -> Iterator[None]:
    yield
    pids = cloud.root / "machine/pids"
    for pid in pids.read_text().split() if pids.exists() else []:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int(pid), signal.SIGKILL)


def test_odd_arguments_arrive_whole_and_secrets_leave_no_trace(cloud: Cloud) -> None:
    """Over the bucket and a shell, each override is on the worker the word it was here."""
    place = launch(cloud, *ODD)
    assert on_worker(cloud, "worker.sh", "start", place).returncode == 0
    wait_for(cloud, "exit=0")
    (started,) = cloud.started()
    assert started["words"] == ["run", "tiny.yaml", *ODD, "--out", "gs://my-bucket/d64"]
    assert started["secret"] == "sk-very-secret"  # in the job's environment ...
    kept = {"script.json", "ftcot.jsonl"}  # ... and nowhere but in the fake Secret Manager and this test's own notes
    for path in cloud.root.rglob("*"):
        if path.is_file() and path.name not in kept:
            assert b"sk-very-secret" not in path.read_bytes(), path


def test_files_beside_the_recipe(cloud: Cloud) -> None:
    data = cloud.root / "completions.json"
    data.write_text("{}")
    cloud.script({"states": [ACTIVE]})
    code, _, said = cloud.run(
        "run.sh", "--yes", "--file", str(data), "d64", str(cloud.recipe), "teacher.import=files/completions.json"
    )
    assert code == 0, said
    assert (cloud.root / "ftcot-d64.machine0.0/ftcot/launch/files/completions.json").read_text() == "{}"


def test_the_source_is_the_checkout_without_what_git_does_not_know(cloud: Cloud) -> None:
    launch(cloud)
    names = subprocess.run(
        ["tar", "-tzf", str(cloud.bucket("d64/launch/source.tar.gz"))], capture_output=True, text=True
    )
    listed = names.stdout.split()
    assert {"pyproject.toml", "constraints.txt", "ftcot_jax/cli.py"} <= set(listed)
    assert not [name for name in listed if name.startswith((".", "tests/")) or "__pycache__" in name]


def test_start_twice_runs_once_and_stop_saves(cloud: Cloud) -> None:
    cloud.behave(steps=5, stall={"0": 2})
    place = launch(cloud)
    assert state(cloud) == "idle"
    assert on_worker(cloud, "worker.sh", "start", place).returncode == 0
    assert state(cloud) == "running"
    again = on_worker(cloud, "worker.sh", "start", place)
    assert (again.returncode, "runs already" in again.stdout) == (0, True)
    cloud.bucket("d64/launch/job").write_text("another\n")
    refused = on_worker(cloud, "worker.sh", "start", place)
    assert (refused.returncode, "another job runs here" in refused.stdout) == (1, True)
    deadline = time.monotonic() + 20
    while len(cloud.steps("d64")) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert on_worker(cloud, "worker.sh", "stop").returncode == 0
    wait_for(cloud, "exit=42")
    assert len(cloud.started()) == 1
    assert "ftcot ended with exit code 42" in on_worker(cloud, "worker.sh", "log").stdout


def test_the_end_of_a_machine_reaches_ftcot_once(cloud: Cloud) -> None:
    """At a shutdown every process gets SIGTERM: a second one, passed on by the supervisor, would end ftcot unsaved."""
    cloud.behave(steps=5, stall={"0": 2})
    place = launch(cloud)
    counting = (FAKE / "ftcot").read_text().replace("lambda *_: sys.exit(42)", "lambda *_: told.append(1)")
    counting = counting.replace("signal.signal(", "told = []\nsignal.signal(", 1)
    counting = counting.replace(
        "        time.sleep(0.05)",
        "        time.sleep(0.05)\n        if told: time.sleep(1.5); sys.exit(42 if len(told) == 1 else 9)",
    )
    tool = cloud.root / "counting"
    tool.write_text(counting)
    tool.chmod(0o755)
    on_worker(cloud, "worker.sh", "status")
    installed = cloud.root / "machine/ftcot/venv/bin/ftcot"
    shutil.copy(tool, installed)
    installed.chmod(installed.stat().st_mode & ~stat.S_IWUSR)
    environment = cloud.environment | {
        "FTCOT_WORK": str(cloud.root / "machine/ftcot"),
        "FAKE_MACHINE": str(cloud.root / "machine"),
        "FAKE_NUMBER": "0",
        "FAKE_WORKER": "0",
    }
    subprocess.run(
        ["bash", str(SCRIPTS / "worker.sh"), "start", place], env=environment, check=True, capture_output=True
    )
    deadline = time.monotonic() + 20
    while len(cloud.steps("d64")) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    group = int((cloud.root / "machine/pids").read_text().split()[-1])
    os.killpg(group, signal.SIGTERM)
    wait_for(cloud, "exit=42")


def test_killed_with_its_supervisor_is_lost_and_starts_again(cloud: Cloud) -> None:
    cloud.behave(steps=5, stall={"0": 2})
    place = launch(cloud)
    on_worker(cloud, "worker.sh", "start", place)
    deadline = time.monotonic() + 20
    while len(cloud.steps("d64")) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(int((cloud.root / "machine/pids").read_text().split()[-1]), signal.SIGKILL)
    wait_for(cloud, "lost")
    cloud.behave(steps=5)
    assert on_worker(cloud, "worker.sh", "start", place).returncode == 0
    wait_for(cloud, "exit=0")
    assert cloud.steps("d64") == [0, 1, 2, 3, 4]


class Metadata(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        right = self.headers["Metadata-Flavor"] == "Google" and self.path.endswith("/instance/attributes/ftcot-launch")
        self.send_response(200 if right else 403)
        self.end_headers()
        self.wfile.write(b"gs://my-bucket/d64/launch" if right else b"")

    def log_message(self, *words: object) -> None:
        pass


def test_a_machine_that_comes_back_goes_on_by_itself(cloud: Cloud) -> None:
    """The startup script: nothing there yet, first boot, reboot in the middle, reboot after the end, failure."""
    server = http.server.HTTPServer(("127.0.0.1", 0), Metadata)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host = {"GCE_METADATA_HOST": f"127.0.0.1:{server.server_port}"}
    cloud.script({"states": [ACTIVE]})
    early = on_worker(cloud, "startup.sh", **host)
    assert (early.returncode, "holds no job yet" in early.stderr) == (0, True)

    launch(cloud)
    cloud.behave(steps=5, exits={"0.0": [42, 1]})
    assert on_worker(cloud, "startup.sh", **host).returncode == 0
    wait_for(cloud, "exit=42")
    assert on_worker(cloud, "startup.sh", **host).returncode == 0  # preempted: goes on
    wait_for(cloud, "exit=1")
    done = on_worker(cloud, "startup.sh", **host)
    assert "ended before with exit code 1" in done.stdout  # failed: not again at each boot for ever
    assert len(cloud.started()) == 2
    server.shutdown()


def test_installing(cloud: Cloud) -> None:
    """The package comes from the job's source with the pinned versions, and once for one source."""
    place = launch(cloud)
    (cloud.root / "machine/ftcot/installed").unlink()
    calls = cloud.root / "pip.txt"
    python = cloud.root / "machine/ftcot/venv/bin/python"
    python.parent.mkdir(parents=True, exist_ok=True)
    python.write_text(f'#!/bin/bash\n[[ $* == *--version ]] || echo "$PWD $*" >>{calls}\n')
    python.chmod(0o755)
    for _ in range(2):
        assert on_worker(cloud, "worker.sh", "start", place).returncode == 0
        wait_for(cloud, "exit=0")
    (line,) = calls.read_text().splitlines()
    assert line == f"{cloud.root}/machine/ftcot/source -m pip install --quiet -c constraints.txt .[tpu,gcs]"
    assert (cloud.root / "machine/ftcot/source/ftcot_jax/cli.py").is_file()


def test_an_environment_that_was_cut_short_is_made_again(cloud: Cloud) -> None:
    """A python without pip stayed for ever: every later start on that machine failed."""
    place = launch(cloud)
    (cloud.root / "machine/ftcot/installed").unlink()
    half = cloud.root / "machine/ftcot/venv/bin/python"
    half.parent.mkdir(parents=True)
    half.write_text("#!/bin/bash\nexit 1\n")
    half.chmod(0o755)
    tools = cloud.root / "tools"
    tools.mkdir()
    (tools / "whole").write_text("#!/bin/bash\n")
    (tools / "python3.13").write_text(f'#!/bin/bash\nmkdir -p "$3/bin" && cp {tools}/whole "$3/bin/python"\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    done = on_worker(cloud, "worker.sh", "start", place, PATH=f"{tools}:{cloud.environment['PATH']}")
    assert done.returncode == 0, done.stderr
    wait_for(cloud, "exit=0")
    assert half.read_text() == "#!/bin/bash\n"


def test_a_job_in_the_foreground_is_ftcot_itself(cloud: Cloud) -> None:
    """In a container signals must reach ftcot, and its exit code the cluster."""
    place = launch(cloud)
    folder = cloud.bucket("d64/launch")
    assert place.endswith("launch")
    cloud.behave(steps=5, exits={"0.0": 42})
    assert on_worker(cloud, "worker.sh", "job", str(folder)).returncode == 42
    assert json.loads((cloud.root / "ftcot.jsonl").read_text())["words"][0] == "run"
    assert Path(folder / "job.sh").is_file()
