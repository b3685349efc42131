"""The sampler against a server with faults: nothing finished is lost, nothing is bought twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from ftcot_jax.errors import FtcotError, UsageError
from ftcot_jax.teacher import ledger as ledger_module
from ftcot_jax.teacher.sampler import sample
from ftcot_jax.teacher.settings import TeacherSettings
from tests.teacher.asking import QUESTIONS, ask, assert_whole
from tests.teacher.fault_server import (
    FaultServer,
    hang,
    status,
)


def test_both_steps_of_every_question(tmp_path: Path) -> None:
    with FaultServer().serving() as server:
        sampled = ask(server, tmp_path / "ledger")
        assert_whole(sampled)
        first, second = server.bodies[0], server.bodies[-1]
        assert (first["n"], first["temperature"], first["max_tokens"], first["model"]) == (4, 0.7, 128, "teacher")
        assert (second["n"], second["temperature"]) == (1, 0.0)
        assert len(server.bodies) == 6 + 24
        assert sampled.account.answered == 30
        assert sampled.account.completion_tokens == 2 * (24 + 24)
        assert list(ask(server, tmp_path / "ledger").completions) == list(sampled.completions)
        assert len(server.bodies) == 30  # the second run bought nothing
    assert set(server.bought.values()) == {1}


def test_seeds_differ_by_sample_and_can_be_left_out(tmp_path: Path) -> None:
    with FaultServer().serving() as server:
        ask(server, tmp_path / "ledger", samples_per_request=1)
        first = [body["seed"] for body in server.bodies if "is 0?" in body["prompt"] and body["temperature"] > 0]
        assert sorted(first) == [1_000_003, 1_000_004, 1_000_005, 1_000_006]
        ask(server, tmp_path / "other", send_seed=False)
        assert all("seed" not in body for body in server.bodies[6 * 8 :])
        assert len(server.bodies) > 6 * 8


def test_more_diversity_buys_only_the_difference(tmp_path: Path) -> None:
    with FaultServer().serving() as server:
        before = ask(server, tmp_path / "ledger", diversity=4)
        server.bodies.clear()
        after = ask(server, tmp_path / "ledger", diversity=8)
        assert [body["n"] for body in server.bodies if body["temperature"] > 0] == [4] * 6
        assert_whole(after, diversity=8)
        kept = [row for row in after.completions if row.completion_index < 4]
        assert kept == list(before.completions)
    assert set(server.bought.values()) == {1}


def test_a_refused_question_does_not_stop_the_others(tmp_path: Path) -> None:
    async def too_long(request, body):  # type: ignore[no-untyped-def]
        if "is 3?" in body["prompt"]:
            return await status(400, '{"error": {"message": "context length"}}')(request, body)
        return None

    server = FaultServer(always=too_long)
    with server.serving():
        sampled = ask(server, tmp_path / "ledger")
    assert sampled.refused == {3: "HTTP 400: context length"}
    assert {row.sample_index for row in sampled.completions} == {0, 1, 2, 4, 5}


def test_no_server_and_wrong_model_are_one_line(tmp_path: Path) -> None:
    settings = TeacherSettings(endpoint="http://127.0.0.1:9/v1", model="m")
    with pytest.raises(FtcotError, match=r"http://127.0.0.1:9/v1 cannot be reached"):
        sample(settings, QUESTIONS, tmp_path / "ledger")
    with (
        FaultServer().serving() as server,
        pytest.raises(UsageError, match=r"has no model 'teachr' \(did you mean 'teacher'\?\)"),
    ):
        ask(server, tmp_path / "ledger", model="teachr")


def test_a_file_that_is_no_ledger(tmp_path: Path) -> None:
    (tmp_path / "ledger").write_text("something else, long enough to be no database " * 50)
    with FaultServer().serving() as server, pytest.raises(FtcotError, match="ledger: not a ledger"):
        ask(server, tmp_path / "ledger")


def test_a_ledger_that_cannot_grow_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's own page limit stands in for a full disk; with room again the run goes on."""
    small = "PRAGMA max_page_count = 14;"
    monkeypatch.setattr(ledger_module, "FIRST_LAYOUT", ledger_module.FIRST_LAYOUT + small)
    with FaultServer().serving() as server:
        with pytest.raises(FtcotError, match=r"the ledger cannot be written \(database or disk is full\)"):
            ask(server, tmp_path / "ledger", diversity=40)
        monkeypatch.undo()
        assert_whole(ask(server, tmp_path / "ledger", diversity=40), diversity=40)


def test_the_key_goes_to_the_server_and_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEACHER_KEY", "planted-secret-7461")
    with FaultServer().serving() as server:
        ask(server, tmp_path / "ledger", key_env="TEACHER_KEY")
    assert server.keys == {"Bearer planted-secret-7461"}
    files = list(tmp_path.iterdir())
    assert files
    assert all(b"planted-secret" not in file.read_bytes() for file in files)


def test_kill_dash_nine_in_the_middle(tmp_path: Path) -> None:
    """A sampler killed outright; the second run completes it and the server's own count shows no double purchase."""
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from ftcot_jax.teacher.sampler import sample
        from ftcot_jax.teacher.settings import TeacherSettings
        from tests.teacher.asking import QUESTIONS, know
        settings = TeacherSettings(endpoint=sys.argv[1], model="teacher", diversity=4, seed=1, concurrency=1)
        know(Path(sys.argv[2]), settings)
        sample(settings, QUESTIONS, Path(sys.argv[2]))
        """
    )
    server = FaultServer(always=hang(0.1))
    with server.serving():
        command = [sys.executable, "-c", script, server.url, str(tmp_path / "ledger")]
        process = subprocess.Popen(command, cwd=Path(__file__).parents[2])
        deadline = time.monotonic() + 60
        while len(server.bodies) < 8 and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        asked = len(server.bodies)
        assert 8 <= asked < 30
        server.always = None
        sampled = ask(server, tmp_path / "ledger")
    assert_whole(sampled)
    assert sampled.account.perhaps_paid <= 1
    twice = sum(count - 1 for count in server.bought.values())
    assert twice <= 4 * sampled.account.perhaps_paid  # at most the one request in flight
