"""Several endpoints, and how fast each is asked: spread by measured speed, dead ones set aside, limits kept to."""

from __future__ import annotations

import contextlib
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ftcot_jax.errors import FtcotError
from ftcot_jax.tasks.question import Question
from ftcot_jax.teacher.limits import AdaptiveLimit, Bucket, backoff
from ftcot_jax.teacher.sampler import sample
from ftcot_jax.teacher.settings import TeacherSettings
from tests.teacher.asking import QUESTIONS, ask, assert_whole, know, teacher
from tests.teacher.fault_server import FaultServer, hang, reset_at_once, status

MANY = [Question(number, f"How many is {number}?", str(number)) for number in range(150)]


def ask_both(first: FaultServer, second: FaultServer, ledger: Path, questions: Any, **settings: Any) -> Any:
    asked = teacher(first, endpoint=[first.url, second.url], diversity=1, **settings)
    know(ledger, asked)
    return sample(asked, questions, ledger)


def test_the_faster_endpoint_is_asked_more(tmp_path: Path) -> None:
    fast, slow = FaultServer(always=hang(0.01)), FaultServer(always=hang(0.12))
    with fast.serving(), slow.serving():
        sampled = ask_both(fast, slow, tmp_path / "ledger", MANY, concurrency=4, timeout_seconds=5)
    assert len(sampled.completions) == len(MANY)
    assert len(fast.bodies) + len(slow.bodies) == 2 * len(MANY)
    assert len(slow.bodies) > 0
    assert len(fast.bodies) > 3 * len(slow.bodies)


def test_a_dead_endpoint_is_set_aside_and_tried_again(tmp_path: Path) -> None:
    """The second endpoint resets its first requests, then recovers: nothing is lost and it works again."""
    steady, shaky = FaultServer(always=hang(0.02)), FaultServer(script=[reset_at_once()] * 6)
    with steady.serving(), shaky.serving():
        sampled = ask_both(steady, shaky, tmp_path / "ledger", MANY, concurrency=4, timeout_seconds=5)
    assert len(sampled.completions) == len(MANY)
    assert steady.bought_twice == shaky.bought_twice == 0
    assert sum(shaky.bought.values()) > 10
    assert sampled.account.perhaps_paid == 6  # a reset request may have been paid


def test_an_endpoint_that_is_not_there_is_gone_without(tmp_path: Path) -> None:
    lines: list[str] = []
    with FaultServer().serving() as server:
        asked = teacher(server, endpoint=["http://127.0.0.1:9/v1", server.url])
        know(tmp_path / "ledger", asked)
        sampled = sample(asked, QUESTIONS, tmp_path / "ledger", say=lines.append)
    assert_whole(sampled)
    assert any(
        "going on without it for now: teacher.endpoint: http://127.0.0.1:9/v1 cannot be reached" in line
        for line in lines
    )


def test_an_endpoint_that_comes_up_later_is_taken_in(tmp_path: Path) -> None:
    steady, late = FaultServer(always=hang(0.02)), FaultServer()
    with late.serving():
        port = int(late.url.split(":")[2].split("/")[0])
    with steady.serving():
        timer = threading.Timer(0.4, lambda: running.enter_context(late.serving(port)))
        with contextlib.ExitStack() as running:
            timer.start()
            sampled = ask_both(steady, late, tmp_path / "ledger", MANY, concurrency=4, timeout_seconds=5)
            timer.join()
    assert len(sampled.completions) == len(MANY)
    assert sum(late.bought.values()) > 0
    assert steady.bought_twice + late.bought_twice == 0


def test_a_second_endpoint_buys_nothing_again(tmp_path: Path) -> None:
    with FaultServer().serving() as one, FaultServer().serving() as other:
        ask(one, tmp_path / "ledger")
        asked = teacher(one, endpoint=[one.url, other.url])
        know(tmp_path / "ledger", asked)
        assert_whole(sample(asked, QUESTIONS, tmp_path / "ledger"))
        assert len(one.bodies) == 30
        assert other.bodies == []
        moved = teacher(other, source=one.url)
        know(tmp_path / "ledger", moved)
        assert_whole(sample(moved, QUESTIONS, tmp_path / "ledger"))
        assert other.bodies == []


def test_throttles_cut_what_is_in_flight(tmp_path: Path) -> None:
    """A server that takes four at a time is soon asked for about four at a time, and every sample bought once."""
    server = FaultServer()

    async def crowded(request: Any, body: Any) -> Any:
        if server._now > 4:
            return await status(429)(request, body)
        return await hang(0.02)(request, body)

    server.always = crowded
    with server.serving():
        asked = teacher(server, diversity=1, concurrency=64, timeout_seconds=5)
        know(tmp_path / "ledger", asked)
        sampled = sample(asked, MANY, tmp_path / "ledger")
    assert len(sampled.completions) == len(MANY)
    assert server.bought_twice == 0
    assert sampled.account.failed < len(MANY)  # 20 at once in the beginning; most later requests are taken


def test_more_is_asked_at_once_as_long_as_it_is_taken(tmp_path: Path) -> None:
    server = FaultServer(always=hang(0.05))
    with server.serving():
        asked = teacher(server, diversity=1, concurrency=60, timeout_seconds=5)
        know(tmp_path / "ledger", asked)
        sample(asked, MANY, tmp_path / "ledger")
    assert 40 < server.most_at_once <= 60


def test_requests_and_tokens_a_minute_are_kept_to(tmp_path: Path) -> None:
    with FaultServer().serving() as server:
        began = time.monotonic()
        ask(server, tmp_path / "ledger", requests_per_minute=600)
        assert time.monotonic() - began > (30 - 20) / 10  # two seconds' worth at once, then ten a second
        assert len(server.bodies) == 30


def test_the_limit_grows_and_shrinks() -> None:
    limit = AdaptiveLimit(100)
    assert limit.limit == 20
    limit.in_flight = 20
    for _ in range(20):
        limit.in_flight = limit.limit
        limit.succeeded()
    assert limit.limit == 40
    limit.throttled(sent_at=1.0, now=2.0)
    assert limit.limit == 27  # 39 were in flight
    limit.throttled(sent_at=1.5, now=2.1)  # of the same wave
    assert limit.limit == 27
    limit.in_flight = 27
    for _ in range(27):
        limit.succeeded()
    assert limit.limit in (27, 28)  # one more a round trip
    limit.in_flight = 3
    limit.succeeded()
    assert limit.limit in (27, 28)  # not what holds requests back
    for wave in range(20):
        limit.throttled(sent_at=3.0 + wave, now=3.5 + wave)
    assert limit.limit == 1


def test_a_bucket_fills_evenly_and_lends() -> None:
    bucket = Bucket(60.0, now=0.0)
    assert bucket.wait(1.0, 0.0) == 0.0
    bucket.take(2.0, 0.0)
    assert bucket.wait(1.0, 0.0) == pytest.approx(1.0)
    assert bucket.wait(1.0, 1.0) == 0.0
    bucket.take(50.0, 2.0)  # more than it holds: paid back in time
    assert bucket.wait(1.0, 2.0) == pytest.approx(49.0)
    bucket.take(-48.0, 2.0)  # most of it was not needed
    assert bucket.wait(1.0, 2.0) == pytest.approx(1.0)
    assert Bucket(None, 0.0).wait(1e9, 0.0) == 0.0


def test_backoff_doubles_with_jitter_up_to_a_limit() -> None:
    waits = [backoff(3, 1.0, 60.0) for _ in range(200)]
    assert 4.0 <= min(waits) < 4.5 < 5.5 < max(waits) <= 6.0
    assert 60.0 <= backoff(50, 1.0, 60.0) <= 90.0


def test_no_endpoint_at_all_is_one_line(tmp_path: Path) -> None:
    settings = TeacherSettings(endpoint=["http://127.0.0.1:9/v1", "http://127.0.0.1:10/v1"], model="m")
    with pytest.raises(FtcotError, match=r"http://127.0.0.1:9/v1 cannot be reached"):
        sample(settings, QUESTIONS, tmp_path / "ledger")
