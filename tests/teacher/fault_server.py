"""An OpenAI-compatible server on loopback that misbehaves on cue and counts what it was asked."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

from aiohttp import web

Fault = Callable[[web.Request, dict[str, Any]], Any]


class FaultServer:
    """Answers /completions; before the k-th request it plays the k-th fault of `script`, if any.

    Attributes:
      url: base URL.
      bought: (prompt, seed, choice) -> times a text was made for it.
      bodies: every request body, in order.
      keys: Authorization headers seen.
    """

    def __init__(self, script: list[Fault | None] | None = None, always: Fault | None = None) -> None:
        self._script = collections.deque(script or [])
        self._always = always
        self.bought: collections.Counter[tuple[str, int, int]] = collections.Counter()
        self.bodies: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.url = ""

    @contextlib.contextmanager
    def serving(self) -> Iterator[FaultServer]:
        app = web.Application()
        app.add_routes([web.get("/v1/models", self._models), web.post("/v1/completions", self._completions)])
        loop = asyncio.new_event_loop()
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        loop.run_until_complete(runner.setup())
        loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", 0).start())
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "teacher"}]})

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        self.keys.add(request.headers.get("Authorization"))
        fault = self._script.popleft() if self._script else self._always
        if fault is not None:
            answer = await fault(request, body)
            if answer is not None:
                return answer
        return web.json_response(self.complete(body, body.get("n", 1)))

    def complete(self, body: dict[str, Any], count: int) -> dict[str, Any]:
        choices = []
        for choice in range(count):
            self.bought[body["prompt"], body.get("seed", 0), choice] += 1
            text = f" text {body.get('seed', 0)} {choice} of {len(body['prompt'])}"
            choices.append({"index": choice, "text": text, "finish_reason": "stop"})
        return {"choices": choices, "usage": {"prompt_tokens": 3, "completion_tokens": 2 * count}}


def status(code: int, text: str = "", headers: dict[str, str] | None = None) -> Fault:
    async def play(request: web.Request, body: dict[str, Any]) -> web.Response:
        return web.Response(status=code, text=text, headers=headers)

    return play


def broken_json(server: FaultServer) -> Fault:
    async def play(request: web.Request, body: dict[str, Any]) -> web.Response:
        return web.Response(text=json.dumps(server.complete(body, body["n"]))[:30], content_type="application/json")

    return play


def reset_in_body() -> Fault:
    async def play(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b'{"choices": [')
        assert request.transport is not None
        request.transport.abort()
        return response

    return play


def fewer(server: FaultServer, count: int) -> Fault:
    async def play(request: web.Request, body: dict[str, Any]) -> web.Response:
        return web.json_response(server.complete(body, min(count, body["n"])))

    return play


def hang(seconds: float) -> Fault:
    async def play(request: web.Request, body: dict[str, Any]) -> None:
        await asyncio.sleep(seconds)

    return play


def same_text() -> Fault:
    async def play(request: web.Request, body: dict[str, Any]) -> web.Response:
        rows = [{"index": n, "text": " the same", "finish_reason": "stop"} for n in range(body["n"])]
        return web.json_response({"choices": rows})

    return play
