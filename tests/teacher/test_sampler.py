"""The sampler against a server with faults: nothing finished is lost, nothing is bought twice."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from ftcot_jax.errors import FtcotError, UsageError
from ftcot_jax.tasks.question import Question
from ftcot_jax.tasks.templates import answer_prompt, zero_shot_cot_prompt
from ftcot_jax.teacher import buyer, endpoint
from ftcot_jax.teacher import ledger as ledger_module
from ftcot_jax.teacher.endpoint import Abilities
from ftcot_jax.teacher.ledger import Ledger
from ftcot_jax.teacher.probe import fact_name
from ftcot_jax.teacher.sampler import Sampled, sample
from ftcot_jax.teacher.settings import TeacherSettings
from tests.teacher.fault_server import (
    Fault,
    FaultServer,
    broken_json,
    fewer,
    hang,
    reset_in_body,
    same_text,
    status,
)

QUESTIONS = [Question(number, f"How many is {number}?", str(number)) for number in range(6)]


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buyer, "_FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(endpoint, "_FIRST_WAIT_SECONDS", 0.01)


def ask(server: FaultServer, ledger: Path, diversity: int = 4, **settings: object) -> Sampled:
    """Samples the questions from an endpoint whose abilities are known: nothing is sent to find them out."""
    defaults = {"endpoint": server.url, "model": "teacher", "diversity": diversity, "seed": 1, "timeout_seconds": 0.5}
    teacher = TeacherSettings(**{**defaults, **settings})  # type: ignore[arg-type]
    know(ledger, teacher)
    return sample(teacher, QUESTIONS, ledger)


def know(ledger: Path, teacher: TeacherSettings, **abilities: object) -> None:
    with contextlib.closing(Ledger(ledger)) as book:
        for url in teacher.endpoints:
            book.remember(fact_name(teacher, url), dataclasses.asdict(Abilities(**abilities)))  # type: ignore[arg-type]


def assert_whole(sampled: Sampled, diversity: int = 4) -> None:
    places = [(row.sample_index, row.completion_index) for row in sampled.completions]
    assert places == [(question.sample_index, n) for question in QUESTIONS for n in range(diversity)]
    for row in sampled.completions:
        assert row.reasoning_prompt == zero_shot_cot_prompt(QUESTIONS[row.sample_index].question)
        assert row.prompt == answer_prompt(row.reasoning_prompt, row.reasoning_completion or "")
        assert row.reasoning_finish_reason == row.finish_reason == "stop"


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


def faults(server: FaultServer) -> dict[str, Fault]:
    return {
        "429": status(429, "slow down", {"Retry-After": "0.05"}),
        "429 without a time": status(429),
        "500": status(500, "oops"),
        "502 in HTML": status(502, "<html>bad gateway</html>"),
        "an error with 200": status(200, '{"error": {"message": "overloaded"}}'),
        "no choices": status(200, '{"choices": []}'),
        "HTML with 200": status(200, "<html></html>"),
    }


@pytest.mark.parametrize("name", sorted(faults(FaultServer())))
def test_passing_faults_are_tried_again(name: str, tmp_path: Path) -> None:
    server = FaultServer(script=[None, faults(FaultServer())[name], faults(FaultServer())[name]])
    with server.serving():
        sampled = ask(server, tmp_path / "ledger")
    assert_whole(sampled)
    assert set(server.bought.values()) == {1}
    assert sampled.account.failed == 2
    assert sampled.account.perhaps_paid == 0


def test_lost_answers_are_bought_again_and_reported(tmp_path: Path) -> None:
    """Only where the text never arrived may a sample be made twice, and the ledger says so."""
    server = FaultServer()
    server.script.extend([reset_in_body(), broken_json(server), hang(2.0)])
    with server.serving():
        sampled = ask(server, tmp_path / "ledger")
    assert_whole(sampled)
    assert sampled.account.perhaps_paid == 3
    assert sum(count - 1 for count in server.bought.values()) == 4  # the four texts of the broken answer


def test_fewer_choices_are_topped_up_and_siblings_kept(tmp_path: Path) -> None:
    server = FaultServer()
    server.always = fewer(server, 1)  # a server that ignores n
    with server.serving():
        sampled = ask(server, tmp_path / "ledger")
    assert_whole(sampled)
    assert set(server.bought.values()) == {1}
    assert len({row.reasoning_completion for row in sampled.completions if row.sample_index == 0}) == 4


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (status(401, "no"), r"the API key is missing \(HTTP 401\); set OPENAI_API_KEY"),
        (status(429, '{"error": {"code": "insufficient_quota"}}'), "quota is used up"),
        (status(404, '{"error": {"message": "The model does not exist"}}'), "HTTP 404: The model does not exist"),
    ],
)
def test_errors_that_every_request_would_get_stop_the_run(
    fault: Fault, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    server = FaultServer(script=[None] * 10 + [fault] * 100)
    with server.serving():
        with pytest.raises(FtcotError, match=message):
            ask(server, tmp_path / "ledger", concurrency=2)
        assert len(server.bodies) <= 13  # in mid-run: the requests in flight, then none
        server.script.clear()
        assert_whole(ask(server, tmp_path / "ledger"))
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


def test_identical_samples_stop_loudly(tmp_path: Path) -> None:
    with (
        FaultServer(always=same_text()).serving() as server,
        pytest.raises(FtcotError, match="all 4 texts of each of the first 5 questions are identical"),
    ):
        ask(server, tmp_path / "ledger")


def test_a_server_that_keeps_failing_is_given_up(tmp_path: Path) -> None:
    with (
        FaultServer(always=status(500)).serving() as server,
        pytest.raises(FtcotError, match=r"failed 3 times in a row \(HTTP 500\)"),
    ):
        ask(server, tmp_path / "ledger", attempts=3)


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
    monkeypatch.setattr(ledger_module, "_SCHEMA", ledger_module._SCHEMA + small)
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
        from tests.teacher.test_sampler import QUESTIONS
        from tests.teacher.test_sampler import know
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
