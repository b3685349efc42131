"""Fine-tuning at an API with faults: one upload and one job, whatever happens in between."""

from __future__ import annotations

import json
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from ftcot_jax.errors import FtcotError, Preempted
from ftcot_jax.rationales.pairs import Pair
from ftcot_jax.students.api_settings import ApiStudentSettings
from ftcot_jax.students.api_student import TunedStudent, fine_tune
from ftcot_jax.tasks.question import Question
from ftcot_jax.teacher import openai_account
from tests.teacher.api_server import (
    ApiServer,
    Fault,
    done_but,
    done_but_cut_off,
    done_but_silent,
    kill_when,
    refuse,
)

QUESTIONS = {number: Question(number, f"How many is {number}?", str(number)) for number in range(12)}
PAIRS = [
    Pair(number, copy, f"How many is {number}? ###", f" Way {copy}. --> {number}", True, f"Way {copy}.", str(number))
    for number in QUESTIONS
    for copy in range(2)
]
FAST = {"poll_seconds": 0.01, "settle_seconds": 0.02, "timeout_seconds": 30}


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_account, "_FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def tune(server: ApiServer, folder: Path, pairs: list[Pair] = PAIRS, **settings: Any) -> TunedStudent:
    given = {"endpoint": server.url, "model": "curie", **FAST, **settings}
    return fine_tune(ApiStudentSettings(**given), pairs, QUESTIONS, "ft_cot_token", folder)


def assert_once(server: ApiServer) -> None:
    assert list(server.uploads.values()) == [1]
    assert list(server.creations.values()) == [1]
    assert len(server.jobs) == len(server.files) == 1


def test_one_job_with_the_papers_texts(tmp_path: Path) -> None:
    with ApiServer().serving() as server:
        student = tune(server, tmp_path, epochs=4, seed=3)
        assert student == TunedStudent("ft:curie:ftjob-0", "curie", "ftjob-0", "file-0", 24, 1234)
        assert tune(server, tmp_path, epochs=4, seed=3) == student
        assert server.hits["POST /files"] == server.hits["POST /fine_tuning/jobs"] == 1
        asked = server.bodies[0]
        rows = [json.loads(line) for line in server.contents["file-0"].splitlines()]
    assert_once(server)
    assert (asked["model"], asked["hyperparameters"], asked["seed"]) == ("curie", {"n_epochs": 4}, 3)
    assert len(asked["suffix"]) <= 18
    assert rows[1] == {"prompt": "How many is 0?\n\n###\n\n", "completion": " Way 1.\n\n-->\n\n0 END"}
    assert server.files["file-0"]["purpose"] == "fine-tune"


def test_chat_messages(tmp_path: Path) -> None:
    with ApiServer().serving() as server:
        tune(server, tmp_path, form="chat")
        row = json.loads(server.contents["file-0"].splitlines()[1])
        assert "hyperparameters" not in server.bodies[0]  # the server's own, as in the paper
    assert row == {
        "messages": [
            {"role": "user", "content": "How many is 0?"},
            {"role": "assistant", "content": "Way 1. --> 0"},
        ]
    }


def test_other_texts_or_settings_are_another_job(tmp_path: Path) -> None:
    with ApiServer().serving() as server:
        for settings in ({}, {"epochs": 2}, {"seed": 1}, {"model": "ada"}, {"form": "chat"}, {"pairs": PAIRS[:20]}):
            tune(server, tmp_path, **settings)
        assert len(server.jobs) == 6
        tune(server, tmp_path, concurrency=3)  # decides nothing
    assert set(server.creations.values()) == set(server.uploads.values()) == {1}
    assert len(server.creations) == 6


PASSING: dict[str, Fault] = {
    "429": refuse(429, "slow down", {"Retry-After": "0.02"}),
    "502 in HTML": refuse(502, "<html>bad gateway</html>"),
    "500 after creation": done_but(500),
    "cut off after creation": done_but_cut_off(),
    "broken JSON after creation": done_but(200, '{"id": "ft'),
}


@pytest.mark.parametrize("route", ["POST /files", "POST /fine_tuning/jobs"])
@pytest.mark.parametrize("name", PASSING)
@pytest.mark.parametrize("keeps_metadata", [True, False])
def test_a_creation_without_answer_is_found_not_repeated(
    route: str, name: str, keeps_metadata: bool, tmp_path: Path
) -> None:
    with ApiServer().serving() as server:
        server.keeps_metadata = keeps_metadata
        server.script[route] = [PASSING[name]]
        assert tune(server, tmp_path).model == "ft:curie:ftjob-0"
        assert not server.script[route]
    assert_once(server)


def test_reading_goes_on_through_faults(tmp_path: Path) -> None:
    reads = ("GET /files", "GET /fine_tuning/jobs", "GET /fine_tuning/jobs/{id}")
    with ApiServer().serving() as server:
        for route in reads:
            server.script[route] = [refuse(429), refuse(500), done_but_cut_off(), refuse(200, "<html></html>")]
        tune(server, tmp_path)
        assert not any(server.script[route] for route in reads)
    assert_once(server)


def test_a_lost_folder_finds_its_job(tmp_path: Path) -> None:
    with ApiServer().serving() as server:
        assert tune(server, tmp_path / "one") == tune(server, tmp_path / "two")
    assert_once(server)


def test_a_file_that_expired_at_the_server_is_sent_again(tmp_path: Path) -> None:
    with ApiServer().serving() as server:
        server.script["POST /fine_tuning/jobs"] = [refuse(400, {"error": {"message": "not today"}})]
        with pytest.raises(FtcotError, match="not today"):
            tune(server, tmp_path)
        server.files.clear()
        assert tune(server, tmp_path).job_id == "ftjob-0"
    assert list(server.creations.values()) == [1]


def test_a_failed_job_is_told_and_the_next_call_starts_another(tmp_path: Path) -> None:
    problem = {
        "status": "failed",
        "error": {"code": "invalid", "message": "line 3 is\nno good"},
        "fine_tuned_model": None,
    }
    with ApiServer().serving() as server:
        server.job_endings = [problem]
        with pytest.raises(FtcotError, match="fine-tuning job ftjob-0 failed: line 3 is no good; the same command"):
            tune(server, tmp_path)
        assert tune(server, tmp_path).job_id == "ftjob-1"
        assert tune(server, tmp_path).job_id == "ftjob-1"
    assert list(server.creations.values()) == [1, 1]


def test_waiting_may_end_and_the_job_goes_on(tmp_path: Path) -> None:
    with ApiServer().serving() as server:
        with pytest.raises(Preempted, match=r"ftjob-0 is queued after api_student.wait_seconds=0"):
            tune(server, tmp_path, wait_seconds=0)
        assert tune(server, tmp_path).job_id == "ftjob-0"
    assert_once(server)


def test_errors_of_the_account_are_one_line_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ApiServer().serving() as server:
        with pytest.raises(FtcotError, match="no training pairs were selected"):
            tune(server, tmp_path, pairs=[])
        server.script["POST /fine_tuning/jobs"] = [refuse(400, {"error": {"message": "model is not for tuning"}})]
        with pytest.raises(FtcotError, match="HTTP 400: model is not for tuning"):
            tune(server, tmp_path)
        monkeypatch.setenv("TUNING_KEY", "planted-secret-9120")
        server.script["GET /files"] = [refuse(403, {"error": {"message": "planted-secret-9120 may not"}})]
        with pytest.raises(FtcotError, match=r"the API key was refused \(HTTP 403\); set TUNING_KEY"):
            tune(server, tmp_path, key_env="TUNING_KEY")
        problem = {"status": "failed", "error": {"code": "x", "message": "planted-secret-9120 has no money"}}
        server.job_endings = [problem]
        with pytest.raises(FtcotError, match=r"failed: \*\*\* has no money"):
            tune(server, tmp_path, key_env="TUNING_KEY")
    files = [file for file in tmp_path.iterdir() if file.is_file()]
    assert len(files) > 2
    assert all(b"planted-secret" not in file.read_bytes() for file in files)


SCRIPT = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from ftcot_jax.students.api_settings import ApiStudentSettings
    from ftcot_jax.students.api_student import fine_tune
    from tests.students.test_api_student import FAST, PAIRS, QUESTIONS
    settings = ApiStudentSettings(endpoint=sys.argv[1], model="curie", **FAST | {"timeout_seconds": 60})
    fine_tune(settings, PAIRS, QUESTIONS, "ft_cot_token", Path(sys.argv[2]))
    """
)
ROUTES = ["GET /files", "POST /files", "GET /fine_tuning/jobs", "POST /fine_tuning/jobs", "GET /fine_tuning/jobs/{id}"]


@pytest.mark.parametrize("route", ROUTES)
def test_kill_dash_nine_at_every_request(route: str, tmp_path: Path) -> None:
    with ApiServer().serving() as server:
        reached = threading.Event()
        server.script[route] = [done_but_silent(reached)]
        assert kill_when(reached, [sys.executable, "-c", SCRIPT, server.url, str(tmp_path)])
        assert tune(server, tmp_path).model == "ft:curie:ftjob-0"
    assert_once(server)
