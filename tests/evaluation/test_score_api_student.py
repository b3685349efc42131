"""Scoring a student at an API: by the paper's rules, each answer bought once."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from ftcot_jax.errors import FtcotError
from ftcot_jax.evaluation.asking import Asking
from ftcot_jax.evaluation.score_api_student import score_api_student
from ftcot_jax.evaluation.score_student import Scores
from ftcot_jax.evaluation.settings import EvaluateSettings
from ftcot_jax.students.api_settings import ApiStudentSettings
from ftcot_jax.tasks.question import Question
from ftcot_jax.tasks.task import Task
from ftcot_jax.tasks.templates import get_template
from ftcot_jax.teacher import openai_account
from tests.teacher.api_server import ApiServer, Fault, done_but_cut_off, refuse

TASK = Task(key="sums", answer_type="integer", licence="ours", citation="none")
QUESTIONS = [Question(number, f"How many is {number}?", str(number)) for number in range(20)]
FAST = {"timeout_seconds": 30, "concurrency": 4}


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_account, "_FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def even_right(prompt: str) -> str:
    """A student that is right where the number is even, with another number before the answer."""
    found = re.search(r"is (\d+)\?", prompt)
    assert found is not None
    number = int(found[1])
    return f" 777 ways.\n\n-->\n\n{number if number % 2 == 0 else number + 1}"


def score(server: ApiServer, folder: Path, questions: list[Question] = QUESTIONS, **settings: Any) -> Scores:
    server.answer = even_right
    given = ApiStudentSettings(endpoint=server.url, model="curie", **FAST, **settings)
    template = get_template("ft_cot_token", "chat" if given.form == "chat" else "api")
    ask = Asking(template, template.prompt, "paper")
    return score_api_student(given, "ft:curie:1", TASK, questions, ask, folder, EvaluateSettings())


def test_scored_like_any_student_and_bought_once(tmp_path: Path) -> None:
    with ApiServer().serving() as server:
        scores = score(server, tmp_path)
        assert score(server, tmp_path) == scores
    assert scores.outcomes == [number % 2 == 0 for number in range(20)]
    assert scores.summary["accuracy"] == 0.5
    assert scores.summary["correct_format"] == scores.summary["complete"] == scores.summary["questions"] == 20
    assert scores.summary["refused"] == scores.summary["perhaps_paid"] == 0
    assert scores.completions[4].completion == " 777 ways.\n\n-->\n\n4"
    assert set(server.bought.values()) == {1}
    assert len(server.bought) == len(server.bodies) == 20
    body = server.bodies[0]
    assert (body["model"], body["temperature"], body["max_tokens"], body["stop"]) == ("ft:curie:1", 0, 1024, ["END"])
    assert body["prompt"].endswith("?\n\n###\n\n")


def test_chat_and_a_stop_string_left_in_the_text(tmp_path: Path) -> None:
    with ApiServer().serving() as server:
        scores = score(server, tmp_path / "chat", form="chat")
        assert scores.summary["accuracy"] == 0.5
        assert server.bodies[0]["messages"] == [{"role": "user", "content": server.bodies[0]["messages"][0]["content"]}]
        complete = server.complete

        def unstopped(body: dict[str, Any], **more: Any) -> dict[str, Any]:
            answer = complete(body, **more)
            answer["choices"][0]["text"] += " END and more 9"
            return answer

        server.complete = unstopped  # type: ignore[method-assign]
        assert score(server, tmp_path / "text").completions[4].completion == " 777 ways.\n\n-->\n\n4 "


PASSING: list[tuple[Fault, int]] = [
    (refuse(429, "", {"Retry-After": "0.01"}), 0),
    (refuse(404, {"error": {"message": "the model is not there yet"}}), 0),
    (refuse(200, '{"choices": []}'), 0),
    (done_but_cut_off(), 1),
]


@pytest.mark.parametrize("fault", range(len(PASSING)))
def test_passing_faults(fault: int, tmp_path: Path) -> None:
    play, paid = PASSING[fault]
    with ApiServer().serving() as server:
        server.script["POST /completions"] = [None, play, play]
        scores = score(server, tmp_path)
    assert scores.summary["accuracy"] == 0.5
    assert scores.summary["perhaps_paid"] == 2 * paid
    assert sum(server.bought.values()) == 20 + 2 * paid  # only where the answer never came


def test_a_refused_question_is_wrong_and_counted(tmp_path: Path) -> None:
    with ApiServer().serving() as server:
        server.script["POST /completions"] = [refuse(400, {"error": {"message": "too long"}})]
        scores = score(server, tmp_path, QUESTIONS[:5])
        assert scores.summary["refused"] == 1
        refused = [row for row in scores.completions if row.finish_reason == "refused"]
        assert [row.completion for row in refused] == [""]
        assert score(server, tmp_path, QUESTIONS[:5]).summary["refused"] == 0  # asked again, at no cost
        server.script["POST /completions"] = [refuse(400, {"error": {"message": "too long"}})] * 20
        with pytest.raises(FtcotError, match=r"every question was refused: .*HTTP 400: too long"):
            score(server, tmp_path / "all")
    assert set(server.bought.values()) == {1}


def test_a_refused_key_stops_and_what_was_in_flight_is_kept(tmp_path: Path) -> None:
    with ApiServer().serving() as server:
        server.script["POST /completions"] = [*[None] * 9, refuse(401)]
        with pytest.raises(FtcotError, match=r"the API key is missing \(HTTP 401\)"):
            score(server, tmp_path)
        assert sum(server.bought.values()) <= 13
        assert score(server, tmp_path).summary["accuracy"] == 0.5
    assert set(server.bought.values()) == {1}


def test_a_server_that_keeps_failing_is_given_up(tmp_path: Path) -> None:
    with ApiServer().serving() as server:
        server.script["POST /completions"] = [refuse(429)] * 100
        with pytest.raises(FtcotError, match=r"failed 2 times in a row \(HTTP 429\)"):
            score(server, tmp_path, attempts=2)


SCRIPT = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from tests.evaluation.test_score_api_student import score
    from tests.teacher.api_server import ApiServer
    server = ApiServer()
    server.url = sys.argv[1]
    score(server, Path(sys.argv[2]))
    """
)


def test_kill_dash_nine_in_the_middle(tmp_path: Path) -> None:
    """What was answered is not bought again; what was in flight is reported, and nothing beyond it is bought twice."""
    with ApiServer().serving() as server:
        server.answer = even_right
        server.seconds = 0.1
        command = [sys.executable, "-c", SCRIPT, server.url, str(tmp_path)]
        process = subprocess.Popen(command, cwd=Path(__file__).parents[2])
        deadline = time.monotonic() + 60
        while len(server.bodies) < 9 and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert 9 <= len(server.bodies) < 20
        scores = score(server, tmp_path)
    assert scores.summary["accuracy"] == 0.5
    twice = sum(count - 1 for count in server.bought.values())
    assert twice <= scores.summary["perhaps_paid"] <= 4
