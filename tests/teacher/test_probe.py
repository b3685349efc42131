"""What an endpoint can do is found out once, kept, and worked around."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from ftcot_jax.errors import FtcotError, UsageError
from ftcot_jax.teacher.ledger import Ledger
from ftcot_jax.teacher.probe import fact_name
from ftcot_jax.teacher.sampler import sample
from tests.teacher.asking import QUESTIONS, assert_whole, teacher
from tests.teacher.fault_server import Fault, FaultServer, at_most, same_text, status

SERVERS: dict[str, tuple[Callable[[FaultServer], Fault | None], bool, dict[str, Any]]] = {
    "does everything": (lambda server: None, True, {}),
    "no lists": (lambda server: None, False, {"prompt_lists": False}),
    "n ignored": (lambda server: _one_choice(server), True, {"largest_n": 1, "distinct": None}),
    "n refused": (lambda server: at_most(1), True, {"largest_n": 1, "distinct": None}),
    "usage of one choice": (lambda server: _usage_of_one(server), True, {"usage_summed": False}),
    "stop left in": (lambda server: _stop_left(server), True, {"stop_excluded": False}),
    "max_completion_tokens": (lambda server: _renamed(), True, {"renamed_limit": True}),
    "identical": (lambda server: same_text(), True, {"distinct": False, "prompt_lists": False, "stop_excluded": False}),
}
EVERYTHING = {
    "largest_n": 1024,
    "distinct": True,
    "usage_summed": True,
    "stop_excluded": True,
    "prompt_lists": True,
    "context_length": 2048,
    "renamed_limit": False,
}


def _one_choice(server: FaultServer) -> Fault:
    async def play(request: web.Request, body: dict[str, Any]) -> web.Response:
        return web.json_response(server.complete(body, 1))

    return play


def _usage_of_one(server: FaultServer) -> Fault:
    async def play(request: web.Request, body: dict[str, Any]) -> web.Response:
        answer = server.complete(body, body["n"])
        for choice in answer["choices"]:
            choice["finish_reason"] = "length"
        return web.json_response(answer | {"usage": {"prompt_tokens": 3, "completion_tokens": body["max_tokens"]}})

    return play


def _renamed() -> Fault:
    async def play(request: web.Request, body: dict[str, Any]) -> web.Response | None:
        if "max_tokens" in body:
            reason = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
            return web.json_response({"error": {"message": reason}}, status=400)
        return None

    return play


def _stop_left(server: FaultServer) -> Fault:
    async def play(request: web.Request, body: dict[str, Any]) -> web.Response:
        answer = server.complete(body, body["n"])
        for choice in answer["choices"]:
            choice["text"] += " ".join(body.get("stop", []))
        return web.json_response(answer)

    return play


class Stopping(FaultServer):
    """Ends its texts before a stop string, as it should."""

    def complete(self, body: dict[str, Any], count: int) -> dict[str, Any]:
        answer = super().complete(body, count)
        for choice in answer["choices"]:
            for stop in body.get("stop", []):
                choice["text"] = choice["text"].partition(stop)[0]
        return answer


@pytest.mark.parametrize("name", sorted(SERVERS))
def test_abilities_are_found_and_kept(name: str, tmp_path: Path) -> None:
    make, lists, changed = SERVERS[name]
    server = Stopping(lists=lists, models=[{"id": "teacher", "max_model_len": 2048}])
    server.always = make(server)
    with server.serving():
        asked = teacher(server, diversity=4)
        with contextlib.suppress(FtcotError):  # identical samples stop the run; the probe stays
            assert_whole(_with_other_reasons(sample(asked, QUESTIONS, tmp_path / "ledger")))
        with contextlib.closing(Ledger(tmp_path / "ledger")) as ledger:
            found = ledger.fact(fact_name(asked, server.url))
        probes = [body for body in server.bodies if _limit(body) <= 16]
        assert len(probes) <= 6
        assert found == EVERYTHING | changed
        server.bodies.clear()
        with contextlib.suppress(FtcotError):
            sample(asked, QUESTIONS, tmp_path / "ledger")
        assert [body for body in server.bodies if _limit(body) <= 16] == []


def _limit(body: dict[str, Any]) -> int:
    return body.get("max_tokens") or body["max_completion_tokens"]


def _with_other_reasons(sampled: Any) -> Any:
    """Servers that say finish_reason 'length' are as whole as others."""
    rows = [
        dataclasses.replace(row, finish_reason="stop", reasoning_finish_reason="stop") for row in sampled.completions
    ]
    return dataclasses.replace(sampled, completions=rows)


def test_lists_of_prompts_save_requests(tmp_path: Path) -> None:
    with FaultServer(lists=True).serving() as server:
        asked = teacher(server, diversity=40)
        assert_whole(sample(asked, QUESTIONS, tmp_path / "ledger"), diversity=40)
        answering = [body for body in server.bodies if body["temperature"] == 0 and body["max_tokens"] == 128]
        assert [len(body["prompt"]) for body in answering] == [20] * 12
        once_more = len(server.bodies)
        assert_whole(sample(asked, QUESTIONS, tmp_path / "ledger"), diversity=40)
        assert len(server.bodies) == once_more
    questions = {prompt: count for (prompt, _, _), count in server.bought.items() if "Therefore" in prompt}
    assert set(questions.values()) == {1}


def test_ignored_usage_is_multiplied(tmp_path: Path) -> None:
    server = FaultServer()
    server.always = _usage_of_one(server)
    lines: list[str] = []
    with server.serving():
        sampled = sample(teacher(server, answer_max_tokens=8), QUESTIONS, tmp_path / "ledger", say=lines.append)
    steps = {step: tokens for _, step, _, _, tokens, _ in sampled.report}
    assert steps["zs_cot text"] == 6 * 4 * 128
    assert steps["zs_cot answer"] == 24 * 8
    assert any("usage counts one sample of n" in line for line in lines)


def test_a_probe_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with (
        FaultServer(always=status(401)).serving() as server,
        pytest.raises(FtcotError, match="the API key is missing"),
    ):
        sample(teacher(server), QUESTIONS, tmp_path / "ledger")
    with (
        FaultServer(models=[{"id": "teacher", "meta": {"n_ctx_train": 100}}]).serving() as server,
        pytest.raises(UsageError, match=r"teacher.max_tokens: 128, but the context of .* is 100 tokens"),
    ):
        sample(teacher(server), QUESTIONS, tmp_path / "other")
