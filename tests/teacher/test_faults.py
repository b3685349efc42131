"""Each fault a server can play, one test each; by its own count nothing is lost or bought twice."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from ftcot_jax.errors import FtcotError, UsageError
from ftcot_jax.teacher import endpoint
from ftcot_jax.teacher.sampler import sample
from tests.teacher.asking import QUESTIONS, ask, assert_whole, know, teacher
from tests.teacher.fault_server import (
    Fault,
    FaultServer,
    at_most,
    broken_json,
    fewer,
    hang,
    reset_at_once,
    reset_in_body,
    same_text,
    status,
    trickle,
)


def faults(server: FaultServer) -> dict[str, Fault]:
    return {
        "429": status(429, "slow down", {"Retry-After": "0.05"}),
        "429 without a time": status(429),
        "429 with a date": status(
            429, headers={"Retry-After": "Wed, 01 Jan 2020 00:00:01 GMT", "Date": "Wed, 01 Jan 2020 00:00:00 GMT"}
        ),
        "503": status(503, "busy"),
        "500": status(500, "oops"),
        "502 in HTML": status(502, "<html>bad gateway</html>"),
        "an error with 200": status(200, '{"error": {"message": "overloaded"}}'),
        "no choices": status(200, '{"choices": []}'),
        "null choices": status(200, '{"choices": null}'),
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


@pytest.mark.parametrize("name", ["reset in the body", "reset at once", "no answer in time", "504"])
def test_lost_requests_are_sent_again_and_reported(name: str, tmp_path: Path) -> None:
    """The server bought nothing for them, which the client cannot know: perhaps paid, and counted so."""
    faults = {
        "reset in the body": reset_in_body(),
        "reset at once": reset_at_once(),
        "no answer in time": hang(2.0),
        "504": status(504, "<html>gateway timeout</html>"),
    }
    server = FaultServer(script=[None, faults[name], faults[name]])
    with server.serving():
        sampled = ask(server, tmp_path / "ledger")
    assert_whole(sampled)
    assert sampled.account.perhaps_paid == 2
    assert server.bought_twice == (0 if name != "no answer in time" else server.bought_twice)
    assert server.bought_twice <= 8


def test_truncated_json_is_bought_again_and_reported(tmp_path: Path) -> None:
    """Only where the text never arrived whole may a sample be made twice, and the ledger says so."""
    server = FaultServer()
    server.script.append(broken_json(server))
    with server.serving():
        sampled = ask(server, tmp_path / "ledger")
    assert_whole(sampled)
    assert sampled.account.perhaps_paid == 1
    assert server.bought_twice == 4  # the four texts of the broken answer


def test_a_slow_stream_is_waited_for(tmp_path: Path) -> None:
    server = FaultServer()
    server.script.extend([trickle(server, 0.3), trickle(server, 0.3)])
    with server.serving():
        sampled = ask(server, tmp_path / "ledger", timeout_seconds=3.0)
    assert_whole(sampled)
    assert (server.bought_twice, sampled.account.perhaps_paid) == (0, 0)


def test_a_stream_slower_than_the_timeout_is_given_up(tmp_path: Path) -> None:
    server = FaultServer()
    server.script.append(trickle(server, 5.0))
    with server.serving():
        sampled = ask(server, tmp_path / "ledger", timeout_seconds=0.5)
    assert_whole(sampled)
    assert (server.bought_twice, sampled.account.perhaps_paid) == (4, 1)


def test_a_server_that_hangs_while_it_shuts_down(tmp_path: Path) -> None:
    """The first server takes every request and never answers; one at the same address later does."""
    dying = FaultServer(always=hang(60))
    with dying.serving():
        port = int(dying.url.split(":")[2].split("/")[0])
        with pytest.raises(FtcotError, match="failed 2 times in a row"):
            ask(dying, tmp_path / "ledger", timeout_seconds=0.2, attempts=2)
    reborn = FaultServer()
    with reborn.serving(port):
        sampled = ask(reborn, tmp_path / "ledger")
    assert_whole(sampled)
    assert sum(dying.bought.values()) == 0
    assert reborn.bought_twice == 0
    assert sampled.account.perhaps_paid == len(dying.bodies)


def test_a_retry_after_is_kept_to(tmp_path: Path) -> None:
    server = FaultServer(script=[status(429, headers={"Retry-After": "0.6"})])
    with server.serving():
        sampled = ask(server, tmp_path / "ledger", concurrency=1)
    assert_whole(sampled)
    assert 0.6 <= server.times[1] - server.times[0] < 1.5
    assert server.bought_twice == 0


def test_clock_jumps_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wall clock leaps hours to and fro at each look; waits, limits and claims go by the monotonic one."""
    real, jumps = time.time, [0.0]

    def leaping() -> float:
        jumps[0] = 7200.0 - jumps[0] if jumps[0] >= 0 else 7200.0
        return real() + jumps[0]

    monkeypatch.setattr(time, "time", leaping)
    server = FaultServer(script=[None, status(429, headers={"Retry-After": "0.1"}), hang(2.0)])
    with server.serving():
        began = time.monotonic()
        sampled = ask(server, tmp_path / "ledger", requests_per_minute=60_000)
    assert time.monotonic() - began < 20
    assert_whole(sampled)
    assert sampled.account.perhaps_paid == 1
    assert server.bought_twice <= 4  # what the hanging request may have made


def test_fewer_choices_are_topped_up_and_siblings_kept(tmp_path: Path) -> None:
    server = FaultServer()
    server.always = fewer(server, 1)  # a server that ignores n
    with server.serving():
        sampled = ask(server, tmp_path / "ledger")
    assert_whole(sampled)
    assert set(server.bought.values()) == {1}
    assert len({row.reasoning_completion for row in sampled.completions if row.sample_index == 0}) == 4


def test_three_of_four_choices_cost_one_request_more(tmp_path: Path) -> None:
    server = FaultServer()
    server.script.append(fewer(server, 3))
    with server.serving():
        sampled = ask(server, tmp_path / "ledger")
    assert_whole(sampled)
    assert server.bought_twice == 0
    assert sorted(body["n"] for body in server.bodies if body["temperature"] > 0) == [1, 4, 4, 4, 4, 4, 4]


def test_n_refused_above_a_limit_is_asked_for_in_parts(tmp_path: Path) -> None:
    server = FaultServer(always=at_most(2))
    with server.serving():
        sampled = ask(server, tmp_path / "ledger")
    assert_whole(sampled)
    assert server.bought_twice == 0
    assert sampled.refused == {}


def test_lists_of_prompts_that_stop_working_are_taken_apart(tmp_path: Path) -> None:
    server = FaultServer()  # answers lists with 400, which the abilities deny
    with server.serving():
        asked = teacher(server)
        know(tmp_path / "ledger", asked, prompt_lists=True)
        sampled = sample(asked, QUESTIONS, tmp_path / "ledger")
    assert_whole(sampled)
    assert (server.bought_twice, sampled.refused) == (0, {})


def test_one_refused_text_leaves_its_siblings(tmp_path: Path) -> None:
    """A 400 for one prompt of a list, or one second step: the others are bought, and kept."""

    async def too_long(request: Any, body: dict[str, Any]) -> Any:
        prompts = body["prompt"] if isinstance(body["prompt"], list) else [body["prompt"]]
        if any("is 3?" in prompt and " 2 of" in prompt for prompt in prompts):
            return await status(400, '{"error": {"message": "maximum context length is 10"}}')(request, body)
        return None

    server = FaultServer(always=too_long, lists=True)
    with server.serving():
        asked = teacher(server)
        know(tmp_path / "ledger", asked, prompt_lists=True)
        sampled = sample(asked, QUESTIONS, tmp_path / "ledger")
    assert sampled.refused == {3: "HTTP 400: maximum context length is 10"}
    assert [row.completion_index for row in sampled.completions if row.sample_index == 3] == [0, 1, 3]
    assert len(sampled.completions) == 23
    assert server.bought_twice == 0


def test_five_hundred_to_everything_sets_the_endpoint_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is down is not hammered: after the first wave one request at a time tries it."""
    monkeypatch.setattr(endpoint, "_FIRST_WAIT_SECONDS", 0.05)
    server = FaultServer(script=[status(500)] * 9)
    with server.serving():
        sampled = ask(server, tmp_path / "ledger")
    assert_whole(sampled)
    assert server.bought_twice == 0
    gaps = [later - earlier for earlier, later in zip(server.times[:9], server.times[1:10], strict=True)]
    # The wave is of six, one for each question, of which a slow machine may send one late, next to another's try.
    assert sum(gap >= 0.05 for gap in gaps) >= 4, gaps


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


@pytest.mark.parametrize("usage", [None, [1], "many", {"prompt_tokens": "3" * 30, "completion_tokens": 2**70}, {}])
def test_an_answer_with_a_strange_usage_is_kept(usage: Any, tmp_path: Path) -> None:
    server = FaultServer()

    async def play(request: Any, body: dict[str, Any]) -> web.Response:
        return web.json_response(server.complete(body, body["n"]) | {"usage": usage})

    server.always = play
    with server.serving():
        sampled = ask(server, tmp_path / "ledger")
    assert_whole(sampled)
    assert set(server.bought.values()) == {1}
    assert (sampled.account.failed, sampled.account.completion_tokens) == (0, 0)


@pytest.mark.parametrize(("written", "kept"), [("half \ud83d", "half ?"), (None, ""), ("nul \0", "nul \0")])
def test_texts_that_are_hard_to_keep(written: str | None, kept: str, tmp_path: Path) -> None:
    server = FaultServer()

    async def play(request: Any, body: dict[str, Any]) -> web.Response:
        answer = server.complete(body, body["n"])
        for choice in answer["choices"]:
            choice["text"] = written
        return web.json_response(answer)

    server.always = play
    with server.serving():
        sampled = ask(server, tmp_path / "ledger", diversity=1)
    assert {row.reasoning_completion for row in sampled.completions} == {kept}
    assert set(server.bought.values()) == {1}


def test_a_lower_diversity_buys_no_answers_for_texts_beyond_it(tmp_path: Path) -> None:
    server = FaultServer()

    async def no_answers(request: Any, body: dict[str, Any]) -> web.Response | None:
        return web.Response(status=401) if "Therefore" in str(body["prompt"]) else None

    server.always = no_answers
    with server.serving():
        with pytest.raises(FtcotError, match="API key"):
            ask(server, tmp_path / "ledger", diversity=6)
        server.always = None
        bought = server.bought.total()
        sampled = ask(server, tmp_path / "ledger", diversity=2)
    assert_whole(sampled, diversity=2)
    texts = 2 * len(QUESTIONS)
    assert server.bought.total() - bought <= 2 * texts


def test_a_retry_after_without_end_is_not_believed(tmp_path: Path) -> None:
    server = FaultServer(script=[None, status(429, headers={"Retry-After": "inf"})])
    with server.serving():
        assert_whole(ask(server, tmp_path / "ledger"))


def test_a_key_that_no_header_can_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = FaultServer()
    with server.serving():
        monkeypatch.setenv("OPENAI_API_KEY", "planted\nkey")
        with pytest.raises(UsageError, match="OPENAI_API_KEY: the key has blanks or characters that no API key has"):
            ask(server, tmp_path / "ledger")
        monkeypatch.setenv("OPENAI_API_KEY", "planted\n")
        assert_whole(ask(server, tmp_path / "ledger"))
    assert server.keys == {"Bearer planted"}
