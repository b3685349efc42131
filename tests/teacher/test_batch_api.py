"""Batch sampling against a server with faults: nothing is created or bought twice, nothing finished is lost."""

from __future__ import annotations

import sqlite3
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from ftcot_jax.errors import FtcotError, Preempted, UsageError
from ftcot_jax.tasks.question import Question
from ftcot_jax.tasks.templates import answer_prompt, zero_shot_cot_prompt
from ftcot_jax.teacher import ledger as ledger_module
from ftcot_jax.teacher import openai_account
from ftcot_jax.teacher.api_state import ApiState
from ftcot_jax.teacher.batch_api import BatchSampled, sample_by_batch
from ftcot_jax.teacher.batch_settings import BatchFileSettings
from ftcot_jax.teacher.ledger import Ledger
from ftcot_jax.teacher.money import BudgetSpent
from ftcot_jax.teacher.sampler import sample
from ftcot_jax.teacher.settings import TeacherSettings
from tests.teacher.api_server import (
    ApiServer,
    Ending,
    Fault,
    cut_short,
    done_but,
    done_but_cut_off,
    done_but_silent,
    kill_when,
    refuse,
)
from tests.teacher.fault_server import FaultServer

QUESTIONS = [Question(number, f"How many is {number}?", str(number)) for number in range(6)]
FAST = {"poll_seconds": 0.01, "settle_seconds": 0.02}
_TEACHER = ("samples_per_request", "attempts", "price", "budget")


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_account, "_FIRST_WAIT_SECONDS", 0.01)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def ask(server: ApiServer, folder: Path, diversity: int = 4, questions: Any = QUESTIONS, **batch: Any) -> BatchSampled:
    given = {name: batch.pop(name) for name in _TEACHER if name in batch}
    teacher = TeacherSettings(
        endpoint=server.url, model="teacher", diversity=diversity, seed=1, timeout_seconds=30, **given
    )
    return sample_by_batch(teacher, BatchFileSettings(**FAST | batch), questions, folder / "ledger", folder)


def assert_whole(sampled: BatchSampled, diversity: int = 4) -> None:
    places = [(row.sample_index, row.completion_index) for row in sampled.completions]
    assert places == [(question.sample_index, n) for question in QUESTIONS for n in range(diversity)]
    for row in sampled.completions:
        assert row.reasoning_prompt == zero_shot_cot_prompt(QUESTIONS[row.sample_index].question)
        assert row.prompt == answer_prompt(row.reasoning_prompt, row.reasoning_completion or "")
        assert row.reasoning_finish_reason == row.finish_reason == "stop"
    first = {row.reasoning_completion for row in sampled.completions if row.sample_index == 0}
    assert len(first) == diversity


def assert_once(server: ApiServer) -> None:
    """By the server's own count, nothing was uploaded, created or bought twice."""
    assert set(server.uploads.values()) == {1}
    assert set(server.creations.values()) == {1}
    assert set(server.bought.values()) == {1}


def test_both_steps_and_nothing_again(tmp_path: Path) -> None:
    with ApiServer().serving() as server:
        sampled = ask(server, tmp_path)
        assert_whole(sampled)
        assert len(server.batches) == 2
        assert sampled.batches.batches == 2
        assert sampled.batches.answered == 6 + 24
        assert sampled.account.completion_tokens == 2 * 48
        assert sampled.account.perhaps_paid == sampled.batches.perhaps_paid == 0
        server.hits.clear()
        assert list(ask(server, tmp_path).completions) == list(sampled.completions)
        assert not server.hits
    assert_once(server)


def test_more_diversity_buys_only_the_difference(tmp_path: Path) -> None:
    with ApiServer().serving() as server:
        saved = list(ask(server, tmp_path, diversity=2).completions)
        bought = sum(server.bought.values())
        after = ask(server, tmp_path, diversity=5)
        assert sum(server.bought.values()) - bought == 6 * 3 * 2
    assert_whole(after, diversity=5)
    assert [row for row in after.completions if row.completion_index < 2] == saved
    assert_once(server)


def test_files_are_split_at_both_limits(tmp_path: Path) -> None:
    with ApiServer().serving() as server:
        assert_whole(ask(server, tmp_path / "rows", max_requests=4))
        sizes = [len(content.splitlines()) for name, content in server.contents.items() if is_input(server, name)]
        assert sizes == [4, 2] + [4] * 6
    with ApiServer().serving() as server:
        assert_whole(ask(server, tmp_path / "bytes", max_bytes=700))
        inputs = [content for name, content in server.contents.items() if is_input(server, name)]
        assert len(inputs) > 4
        assert max(map(len, inputs)) <= 700
        with pytest.raises(UsageError, match=r"request q0-c0-s1 alone has \d+ bytes"):
            ask(server, tmp_path / "one", max_bytes=100)
    assert_once(server)


def is_input(server: ApiServer, file_id: str) -> bool:
    return bool(server.files[file_id]["purpose"] == "batch")


def test_custom_ids_name_question_completion_and_step(tmp_path: Path) -> None:
    with ApiServer().serving() as server:
        ask(server, tmp_path, diversity=3, samples_per_request=2)
        first, second = (content.decode() for name, content in server.contents.items() if is_input(server, name))
    assert first.count('"custom_id": "q5-c0-s1"') == first.count('"custom_id": "q5-c2-s1"') == 1
    assert '"n": 2' in first
    assert all(second.count(f'"custom_id": "q5-c{number}-s2"') == 1 for number in range(3))


ROUTES = ["POST /files", "POST /batches"]
PASSING: dict[str, Fault] = {
    "429 with a time": refuse(429, "slow down", {"Retry-After": "0.02"}),
    "429": refuse(429),
    "502 in HTML": refuse(502, "<html>bad gateway</html>"),
    "500 after creation": done_but(500),
    "cut off after creation": done_but_cut_off(),
    "HTML with 200 after creation": done_but(200, "<html>hello</html>"),
    "broken JSON after creation": done_but(200, '{"id": "fi'),
    "an error with 200": refuse(200, {"error": {"message": "overloaded"}}),
}


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("name", PASSING)
def test_a_creation_without_answer_is_found_not_repeated(route: str, name: str, tmp_path: Path) -> None:
    with ApiServer().serving() as server:
        server.script[route] = [PASSING[name]]
        sampled = ask(server, tmp_path)
        assert not server.script[route]
    assert_whole(sampled)
    assert_once(server)
    assert sampled.batches.adopted == (route == "POST /batches" and "after creation" in name)


def test_half_an_upload_is_not_adopted(tmp_path: Path) -> None:
    with ApiServer().serving() as server:
        ask(server, tmp_path / "lost", diversity=1)
        whole = next(row for row in server.files.values() if row["purpose"] == "batch")
        whole["bytes"] -= 100
        server.batches.clear()
        ask(server, tmp_path / "new", diversity=1)
        assert server.uploads[whole["filename"]] == 2


def test_a_list_that_lags_is_given_time(tmp_path: Path) -> None:
    """The batch exists but the list shows it only a little later: without the wait it would be made twice."""
    with ApiServer().serving() as server:
        server.script["POST /batches"] = [done_but(500)]
        empty = refuse(200, {"object": "list", "data": [], "has_more": False})
        server.script["GET /batches"] = [None, empty]  # before the first creation; right after it
        assert_whole(ask(server, tmp_path))
    assert_once(server)


@pytest.mark.parametrize("keeps_metadata", [True, False])
@pytest.mark.parametrize("paged", [True, False])
def test_any_servers_lists_will_do(keeps_metadata: bool, paged: bool, tmp_path: Path) -> None:
    with ApiServer().serving() as server:
        server.keeps_metadata, server.lists_paged = keeps_metadata, paged
        server.script["POST /batches"] = [None, done_but_cut_off(), None, done_but(500)]
        assert_whole(ask(server, tmp_path, max_requests=6))
    assert_once_by_file(server)


def assert_once_by_file(server: ApiServer) -> None:
    files = [batch["input_file_id"] for batch in server.batches.values()]
    assert len(files) == len(set(files))
    assert set(server.uploads.values()) == set(server.bought.values()) == {1}


READS = ["GET /files", "GET /batches", "GET /batches/{id}", "GET /files/{id}/content"]


@pytest.mark.parametrize("route", READS)
def test_reading_goes_on_through_faults(route: str, tmp_path: Path) -> None:
    with ApiServer().serving() as server:
        server.script[route] = [refuse(429), refuse(500), done_but_cut_off(), refuse(502, "<html></html>")]
        if route != "GET /files/{id}/content":
            server.script[route] += [refuse(200, "<html></html>"), refuse(200, '{"broken')]
        assert_whole(ask(server, tmp_path))
        assert not server.script[route]
    assert_once(server)


def test_an_expired_batch_keeps_its_rows_and_only_the_rest_is_sent_again(tmp_path: Path) -> None:
    with ApiServer().serving() as server:
        server.endings = [Ending("expired", rows=2), Ending(), Ending("expired", rows=0)]
        sampled = ask(server, tmp_path)
        assert_whole(sampled)
        sizes = [len(content.splitlines()) for name, content in server.contents.items() if is_input(server, name)]
        assert sizes == [6, 4, 24, 24]
    assert_once(server)
    assert sampled.batches.failed == 4 + 24
    assert sampled.batches.perhaps_paid == 0


def test_a_cancelled_batch_stops_the_run_and_the_next_asks_for_the_rest(tmp_path: Path) -> None:
    with ApiServer().serving() as server:
        server.endings = [Ending("cancelled", rows=4)]
        with pytest.raises(FtcotError, match="the batch was cancelled at the API; what was answered is kept"):
            ask(server, tmp_path)
        assert len(server.batches) == 1
        assert_whole(ask(server, tmp_path))
    assert_once(server)


def test_a_full_queue_is_waited_for_and_an_invalid_batch_stops(tmp_path: Path) -> None:
    with ApiServer().serving() as server:
        server.endings = [Ending("failed", errors=[{"code": "token_limit_exceeded", "message": "queue is full"}])]
        assert_whole(ask(server, tmp_path / "queue"))
        server.endings = [Ending("failed", errors=[{"code": "model_not_found", "message": "no such", "line": 1}])]
        with pytest.raises(FtcotError, match="the API failed the batch: line 1: no such"):
            ask(server, tmp_path / "model", diversity=3)
        assert_whole(ask(server, tmp_path / "model", diversity=3), diversity=3)  # put right, the next run goes on
    assert set(server.creations.values()) == {1}


def test_rows_that_fail_are_sorted(tmp_path: Path) -> None:
    faults: dict[str, tuple[int, dict[str, Any]]] = {
        "q1-c0-s1": (400, {"error": {"message": "context length"}}),
        "q2-c0-s1": (500, {"error": {"message": "oops"}}),
        "q4-c0-s1": (429, {"error": {"message": "slow down"}}),
    }
    with ApiServer().serving() as server:
        server.endings = [Ending(row_faults=faults), Ending(), Ending(row_faults={"q5-c2-s2": faults["q1-c0-s1"]})]
        sampled = ask(server, tmp_path)
        again = ask(server, tmp_path)
        assert len(server.batches) == 3  # the refused rows are known and not asked for again
    assert sampled.refused == again.refused == {1: "HTTP 400: context length", 5: "HTTP 400: context length"}
    counts = {n: sum(row.sample_index == n for row in sampled.completions) for n in range(6)}
    assert counts == {0: 4, 1: 0, 2: 4, 3: 4, 4: 4, 5: 3}  # siblings of a refused answer are kept
    assert sampled.batches.refused == 2
    assert sampled.batches.failed == 2
    assert set(server.bought.values()) == {1}


def test_rows_that_keep_failing_stop_the_run(tmp_path: Path) -> None:
    fault = {"q2-c0-s1": (500, {"error": {"message": "oops"}})}
    with ApiServer().serving() as server:
        server.endings = [Ending(row_faults=fault) for _ in range(3)]
        with pytest.raises(FtcotError, match=r"1 requests failed in 3 batches in a row \(failed: HTTP 500\)"):
            ask(server, tmp_path)
        assert_whole(ask(server, tmp_path))
    assert set(server.bought.values()) == {1}


@pytest.mark.parametrize(
    ("status", "body"),
    [(401, {"error": {"message": "bad key"}}), (429, {"error": {"code": "insufficient_quota", "message": "no money"}})],
)
def test_a_row_that_speaks_for_all_stops_the_run(status: int, body: dict[str, Any], tmp_path: Path) -> None:
    with ApiServer().serving() as server:
        server.endings = [Ending(row_faults={"q2-c0-s1": (status, body)})]
        with pytest.raises(FtcotError, match=f"request q2-c0-s1: HTTP {status}: {body['error']['message']}"):
            ask(server, tmp_path)
        assert_whole(ask(server, tmp_path))
    assert set(server.bought.values()) == {1}


def test_a_cut_output_file_is_fetched_again(tmp_path: Path) -> None:
    with ApiServer().serving() as server:
        server.script["GET /files/{id}/content"] = [cut_short(0.5), cut_short(0.9)]
        sampled = ask(server, tmp_path)
    assert_whole(sampled)
    assert_once(server)
    assert sampled.batches.perhaps_paid == 0


def test_an_output_file_that_stays_cut_is_counted_as_perhaps_paid(tmp_path: Path) -> None:
    with ApiServer().serving() as server:
        server.script["GET /files/{id}/content"] = [cut_short(0.5)] * 3
        sampled = ask(server, tmp_path)
    assert_whole(sampled)
    again = sum(count - 1 for count in server.bought.values())
    assert again == 4 * sampled.batches.perhaps_paid > 0  # four samples a request


def test_half_a_character_does_not_lose_the_text(tmp_path: Path) -> None:
    with ApiServer().serving() as server:
        server.answer = lambda prompt: f" {len(prompt)} \ud83d"
        assert_whole(sampled := ask(server, tmp_path))
    assert_once(server)
    assert (next(iter(sampled.completions)).reasoning_completion or "").startswith(" 46 ? ")


@pytest.mark.parametrize("usage", [[1], {"prompt_tokens": "many", "completion_tokens": 10**30}, None])
def test_a_strange_count_of_tokens_does_not_lose_the_text(usage: object, tmp_path: Path) -> None:
    with ApiServer().serving() as server:
        complete = server.complete
        server.complete = lambda *body, **more: complete(*body, **more) | {"usage": usage}  # type: ignore[method-assign]
        sampled = ask(server, tmp_path)
    assert_whole(sampled)
    assert_once(server)
    assert (sampled.account.prompt_tokens, sampled.account.completion_tokens) == (0, 0)


def test_a_server_that_ignores_n(tmp_path: Path) -> None:
    with ApiServer().serving() as server:
        server.endings = [Ending(choices=1) for _ in range(3)]
        sampled = ask(server, tmp_path)
        assert len(server.batches) == 3  # one more, of single requests, tops all of it up
    assert_whole(sampled)
    assert_once(server)


def test_identical_rationales_stop_before_step_two(tmp_path: Path) -> None:
    with ApiServer().serving() as server:
        complete = server.complete
        server.complete = lambda body, **more: complete(body | {"temperature": 0}, **more)  # type: ignore[method-assign]
        with pytest.raises(FtcotError, match="all rationales of each of 6 questions are identical"):
            ask(server, tmp_path)
        assert len(server.batches) == 1


def test_equal_questions_are_asked_once(tmp_path: Path) -> None:
    twins = [Question(0, "How many?", "1"), Question(7, "How many?", "1")]
    with ApiServer().serving() as server:
        sampled = ask(server, tmp_path, questions=twins)
    assert [(row.sample_index, row.completion_index) for row in sampled.completions] == [
        (index, number) for index in (0, 7) for number in range(4)
    ]
    assert_once(server)
    assert sum(server.bought.values()) == 8


def test_the_live_sampler_and_batches_share_one_ledger(tmp_path: Path) -> None:
    with FaultServer().serving() as live, ApiServer().serving() as server:
        settings = TeacherSettings(endpoint=live.url, source="teacher", model="teacher", diversity=2, seed=1)
        first = list(sample(settings, QUESTIONS, tmp_path / "ledger").completions)
        asked = len(live.bodies)
        more = settings.model_copy(update={"diversity": 3, "endpoint": server.url})
        batch = BatchFileSettings(**FAST)
        after = list(sample_by_batch(more, batch, QUESTIONS, tmp_path / "ledger", tmp_path).completions)
        assert [row for row in after if row.completion_index < 2] == first
        assert sum(server.bought.values()) == 6 * 2
        again = settings.model_copy(update={"diversity": 3})
        assert list(sample(again, QUESTIONS, tmp_path / "ledger").completions) == after
        assert len(live.bodies) == asked
    assert_once(server)


def test_a_budget_stops_before_a_file_that_may_break_it(tmp_path: Path) -> None:
    price = {"prompt": 0, "completion": 1000}  # a token a tenth of a cent; 128 are asked for at most
    with ApiServer().serving() as server:
        with pytest.raises(
            BudgetSpent, match=r"\$0.0000 of \$3.0000 is spent and the next batch files may cost \$3.0720"
        ):
            ask(server, tmp_path, price=price, budget=3.0)
        assert not server.files
        sampled = ask(server, tmp_path, price=price, budget=3.2)
        assert_whole(sampled)
        assert sampled.account.cost == pytest.approx(48 * 2 / 1000)


def test_waiting_may_end_and_the_batch_is_collected_later(tmp_path: Path) -> None:
    with ApiServer().serving() as server:
        server.endings = [Ending(polls=3)]
        with pytest.raises(Preempted, match="1 batches are still under way"):
            ask(server, tmp_path, wait_seconds=0)
        assert_whole(ask(server, tmp_path))
    assert_once(server)


def test_what_is_wanted_may_change_while_a_batch_is_under_way(tmp_path: Path) -> None:
    """A batch that exists is used as it is; one that was only planned is planned afresh."""
    with ApiServer().serving() as server:
        server.endings = [Ending(polls=3)]
        with pytest.raises(Preempted):
            ask(server, tmp_path / "less", diversity=5, wait_seconds=0)
        ask(server, tmp_path / "less", diversity=3)
        assert sum(server.bought.values()) == 6 * (5 + 3)
        assert_whole(ask(server, tmp_path / "less", diversity=5), diversity=5)
    assert_once(server)
    with ApiServer().serving() as server:
        server.endings = [Ending(polls=3)]
        with pytest.raises(Preempted):
            ask(server, tmp_path / "more", diversity=2, wait_seconds=0)
        assert_whole(ask(server, tmp_path / "more", diversity=4))
    assert_once(server)
    with ApiServer().serving() as server:
        server.script["POST /files"] = [refuse(401)]
        with pytest.raises(FtcotError, match="HTTP 401"):
            ask(server, tmp_path / "planned", diversity=5)
        ask(server, tmp_path / "planned", diversity=2)
        assert sum(server.bought.values()) == 6 * 2 * 2


def test_a_lost_folder_adopts_what_the_account_has(tmp_path: Path) -> None:
    with ApiServer().serving() as server:
        sampled = ask(server, tmp_path / "lost")
        found = ask(server, tmp_path / "new")
    assert list(found.completions) == list(sampled.completions)
    assert_once(server)
    assert found.batches.adopted == 2


def test_errors_of_the_account_are_one_line_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ApiServer().serving() as server:
        server.script["POST /files"] = [refuse(401, {"error": {"message": "no"}})]
        with pytest.raises(FtcotError, match=r"the API key is missing \(HTTP 401\); set OPENAI_API_KEY"):
            ask(server, tmp_path)
        server.script["POST /batches"] = [refuse(429, {"error": {"code": "insufficient_quota"}})]
        with pytest.raises(FtcotError, match="quota is used up"):
            ask(server, tmp_path)
        server.script["POST /batches"] = [refuse(400, {"error": {"message": "batches are not for you"}})]
        with pytest.raises(FtcotError, match="HTTP 400: batches are not for you"):
            ask(server, tmp_path)
        server.script["GET /batches"] = [refuse(500)] * 3
        with pytest.raises(FtcotError, match=r"failed 3 times in a row \(HTTP 500\)"):
            ask(server, tmp_path, attempts=3)
        server.script["GET /batches"] = []
        assert_whole(ask(server, tmp_path))
    assert_once(server)
    monkeypatch.setenv("OPENAI_API_KEY", "sécret")
    with pytest.raises(UsageError, match="OPENAI_API_KEY: the key has blanks or characters"):
        ask(server, tmp_path)


def test_a_batch_that_another_key_cannot_see_is_not_bought_again(tmp_path: Path) -> None:
    with ApiServer().serving() as server:
        with pytest.raises(Preempted):
            ask(server, tmp_path, wait_seconds=0)
        hidden, server.batches = server.batches, {}
        with pytest.raises(FtcotError, match="HTTP 404: No such batch"):
            ask(server, tmp_path)
        server.batches = hidden
        assert_whole(ask(server, tmp_path))
    assert_once(server)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("3", 3.0), ("0.5", 0.5), ("-1", 0.0), ("inf", 3600.0), ("nan", None), ("Wed, 21 Oct", None)],
)
def test_retry_after(header: str, seconds: float | None) -> None:
    assert openai_account._seconds(header) == seconds


def test_no_server_is_one_line(tmp_path: Path) -> None:
    teacher = TeacherSettings(endpoint="http://127.0.0.1:9/v1", model="m", attempts=2)
    with pytest.raises(FtcotError, match=r"http://127.0.0.1:9/v1 failed 2 times in a row \(connection"):
        sample_by_batch(teacher, BatchFileSettings(**FAST), QUESTIONS, tmp_path / "ledger", tmp_path)


def test_the_key_goes_to_the_server_and_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "planted-secret-7461\n")
    said: list[str] = []
    with ApiServer().serving() as server:
        server.script["POST /batches"] = [refuse(400, {"error": {"message": "Bearer planted-secret-7461 is odd"}})]
        teacher = TeacherSettings(endpoint=server.url, model="teacher", seed=1)
        with pytest.raises(FtcotError, match=r"Bearer \*\*\* is odd"):
            sample_by_batch(
                teacher, BatchFileSettings(**FAST), QUESTIONS, tmp_path / "ledger", tmp_path, say=said.append
            )
        echo = {"error": {"message": "who is planted-secret-7461?"}}
        server.endings = [Ending(row_faults={"q1-c0-s1": (400, echo)})]
        sampled = sample_by_batch(
            teacher, BatchFileSettings(**FAST), QUESTIONS, tmp_path / "ledger", tmp_path, say=said.append
        )
    assert sampled.refused == {1: "HTTP 400: who is ***?"}
    assert server.keys == {"Bearer planted-secret-7461"}
    files = [file for file in tmp_path.iterdir() if file.is_file()]
    assert len(files) > 4
    assert all(b"planted-secret" not in file.read_bytes() for file in files)
    assert said
    assert "planted-secret" not in " ".join(said)


def test_one_folder_has_one_process(tmp_path: Path) -> None:
    with ApiServer().serving() as server, ApiState(tmp_path):
        with pytest.raises(FtcotError, match="another process is working in it"):
            ask(server, tmp_path)
        assert not server.hits


def test_a_file_that_is_no_state(tmp_path: Path) -> None:
    (tmp_path / "state.sqlite").write_text("something else, long enough to be no database " * 50)
    with pytest.raises(FtcotError, match=r"state.sqlite: not a state file"), ApiServer().serving() as server:
        ask(server, tmp_path)


def test_a_full_disk_is_one_line_and_with_room_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite's own page limit stands in for a full disk; the answers that did not fit are still at the API."""
    with ApiServer().serving() as server:
        monkeypatch.setattr(ledger_module, "FIRST_LAYOUT", ledger_module.FIRST_LAYOUT + "PRAGMA max_page_count = 24;")
        with pytest.raises(FtcotError, match=r"cannot be written \(database or disk is full\); what came before"):
            ask(server, tmp_path, diversity=100)
        monkeypatch.undo()
        assert_whole(ask(server, tmp_path, diversity=100), diversity=100)
    assert_once(server)


@pytest.mark.parametrize("commits", [0, 1, 2])
def test_killed_between_the_ledger_and_the_folder(
    commits: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after so many of the two commits of a batch's answers to the ledger; none is lost or there twice."""

    class Killed(Exception):
        pass

    def die(*args: Any) -> None:
        raise Killed

    commit, done = Ledger.commit, []

    def counted(ledger: Ledger, *args: Any) -> Any:
        if len(done) == commits:
            raise Killed
        done.append(args)
        return commit(ledger, *args)

    with ApiServer().serving() as server:
        monkeypatch.setattr(Ledger, "commit", counted)
        monkeypatch.setattr(ApiState, "collect", die)
        with pytest.raises(Killed):
            ask(server, tmp_path)
        monkeypatch.undo()
        monkeypatch.setattr(openai_account, "_FIRST_WAIT_SECONDS", 0.01)
        sampled = ask(server, tmp_path)
    assert_whole(sampled)
    assert_once(server)
    assert sampled.account.duplicates == 0
    assert sampled.account.answered == 6 + 24
    assert sampled.account.perhaps_paid == (6 if commits == 1 else 0)  # intents whose outcome was not written


SCRIPT = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from ftcot_jax.teacher.batch_api import sample_by_batch
    from ftcot_jax.teacher.batch_settings import BatchFileSettings
    from ftcot_jax.teacher.settings import TeacherSettings
    from tests.teacher.test_batch_api import FAST, QUESTIONS
    teacher = TeacherSettings(endpoint=sys.argv[1], model="teacher", diversity=4, seed=1)
    folder = Path(sys.argv[2])
    sample_by_batch(teacher, BatchFileSettings(**FAST), QUESTIONS, folder / "ledger", folder)
    """
)
KILLS = [(route, step) for route in [*ROUTES, *READS] for step in (1, 2)]


@pytest.mark.parametrize(("route", "step"), KILLS)
def test_kill_dash_nine_at_every_request(route: str, step: int, tmp_path: Path) -> None:
    """Killed after the server did what was asked and before it said so; the next run buys and creates nothing again."""
    with ApiServer().serving() as server:
        reached = threading.Event()
        # In each step the lists are read once, and a batch is looked at twice.
        before = (step - 1) * (2 if route == "GET /batches/{id}" else 1)
        server.script[route] = [*[None] * before, done_but_silent(reached)]
        assert kill_when(reached, [sys.executable, "-c", SCRIPT, server.url, str(tmp_path)])
        assert_whole(ask(server, tmp_path))
        assert len(server.batches) == 2
    assert_once(server)
    with sqlite3.connect(tmp_path / "state.sqlite") as db:
        assert db.execute("SELECT COUNT(*) FROM parts WHERE outcome IS NOT 'completed'").fetchone() == (0,)
