"""Ctrl-C and SIGTERM drain; and the key is in no file and no log whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.teacher.asking import ask, assert_whole, know, teacher
from tests.teacher.fault_server import Fault, FaultServer, hang, reset_in_body, status

ROOT = Path(__file__).parents[2]
SECRET = "planted-secret-7461"
CLIENT = """
import sys
from pathlib import Path
from ftcot_jax.cli import _guarded
from ftcot_jax.progress import say, show_progress
from ftcot_jax.teacher.sampler import sample
from ftcot_jax.teacher.settings import TeacherSettings
from tests.teacher.asking import QUESTIONS
settings = TeacherSettings(endpoint=sys.argv[1], model="teacher", diversity=4, seed=1, concurrency=2, attempts=2,
                           key_env="TEACHER_KEY")
def run():
    with show_progress("sample") as update:
        show = lambda tally: update(tally.done, tally.total, tally.note)
        sample(settings, QUESTIONS, Path(sys.argv[2]), show, say=say)
sys.exit(_guarded(run))
"""


def start(server: FaultServer, ledger: Path, debug: bool = False) -> subprocess.Popen[str]:
    environment = {**os.environ, "TEACHER_KEY": SECRET} | ({"FTCOT_DEBUG": "1"} if debug else {})
    command = [sys.executable, "-c", CLIENT, server.url, str(ledger)]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 42)])
def test_a_signal_waits_for_what_is_in_flight(number: signal.Signals, code: int, tmp_path: Path) -> None:
    server = FaultServer(always=hang(0.3))
    with server.serving():
        know(tmp_path / "ledger", teacher(server))
        process = start(server, tmp_path / "ledger")
        while len(server.bodies) < 4:
            time.sleep(0.01)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
        assert process.returncode == code
        asked = len(server.bodies)
        assert asked <= 6  # nothing new was sent
        server.always = None
        sampled = ask(server, tmp_path / "ledger")
    assert "stopping: waiting for 2 requests in flight" in said
    assert "of 6 questions done; everything bought is in the ledger, run the same command to go on" in said
    assert_whole(sampled)
    assert (server.bought_twice, sampled.account.perhaps_paid) == (0, 0)


def test_a_second_signal_waits_for_nothing(tmp_path: Path) -> None:
    server = FaultServer(always=hang(30))
    with server.serving():
        know(tmp_path / "ledger", teacher(server))
        process = start(server, tmp_path / "ledger")
        while len(server.bodies) < 2:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
        assert process.returncode == 130
        assert "run the same command to go on" in said
        server.always = None
        sampled = ask(server, tmp_path / "ledger")
    assert_whole(sampled)
    assert sampled.account.perhaps_paid == 2  # those given up


FAULTS: dict[str, Fault] = {
    "all well": hang(0),
    "refused key": status(401, f'{{"error": {{"message": "Incorrect API key provided: {SECRET}"}}}}'),
    "refused question": status(400, f'{{"detail": "bad header Bearer {SECRET}"}}'),
    "failing": status(500, f"<html>{SECRET}</html>"),
    "lost": reset_in_body(),
}


@pytest.mark.parametrize("name", sorted(FAULTS))
def test_the_key_is_in_no_file_and_no_log(name: str, tmp_path: Path) -> None:
    """Even where the server repeats it in its error, and even in a stack trace."""
    server = FaultServer(always=FAULTS[name])
    with server.serving():
        know(tmp_path / "ledger", teacher(server))
        out, said = start(server, tmp_path / "ledger", debug=True).communicate(timeout=60)
    assert server.keys == {f"Bearer {SECRET}"}
    assert SECRET not in out + said
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert files
    assert all(SECRET.encode() not in file.read_bytes() for file in files)
