"""An OpenAI-compatible server on loopback that misbehaves on cue and counts what it was asked."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from aiohttp import web

Fault = Callable[[web.Request, dict[str, Any]], Any]


class FaultServer:
    """Answers /completions and /chat/completions; before the k-th request it plays the k-th fault of `script`, if any.

    Args:
      script: faults in the order of requests; None: none.
      always: the fault of every request after the script.
      lists: whether a list of prompts is answered.
      models: rows of GET /models.

    Attributes:
      url: base URL.
      bought: (prompt, seed, choice) -> times a text was made for it.
      bodies: every request body, in order.
      keys: Authorization headers seen.
      most_at_once: requests under way at the same time, at most.
    """

    def __init__(
        self,
        script: list[Fault | None] | None = None,
        always: Fault | None = None,
        lists: bool = False,
        models: list[dict[str, Any]] | None = None,
    ) -> None:
        self.script = collections.deque(script or [])
        self.always = always
        self._lists = lists
        self._models_listed = [{"id": "teacher"}] if models is None else models
        self.bought: collections.Counter[tuple[str, int, int]] = collections.Counter()
        self.bodies: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.keys: set[str | None] = set()
        self.most_at_once = 0
        self._now = 0
        self.url = ""

    @contextlib.contextmanager
    def serving(self, port: int = 0) -> Iterator[FaultServer]:
        app = web.Application()
        app.add_routes(
            [
                web.get("/v1/models", self._models),
                web.post("/v1/completions", self._answer),
                web.post("/v1/chat/completions", self._answer),
            ]
        )
        loop = asyncio.new_event_loop()
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        loop.run_until_complete(runner.setup())
        loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", port, reuse_address=True).start())
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

    @property
    def bought_twice(self) -> int:
        return sum(count - 1 for count in self.bought.values())

    async def _models(self, request: web.Request) -> web.Response:
        return web.json_response({"data": self._models_listed})

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        self.times.append(time.monotonic())
        self.keys.add(request.headers.get("Authorization"))
        self._now += 1
        self.most_at_once = max(self.most_at_once, self._now)
        try:
            fault = self.script.popleft() if self.script else self.always
            if fault is not None:
                answer = await fault(request, body)
                if answer is not None:
                    return answer
            if isinstance(body.get("prompt"), list) and not self._lists:
                return web.Response(status=400, text='{"error": {"message": "prompt must be a string"}}')
            return web.json_response(self.complete(body, body.get("n", 1)))
        finally:
            self._now -= 1

    def complete(self, body: dict[str, Any], count: int) -> dict[str, Any]:
        """An answer of `count` samples a prompt, every one of them noted as bought."""
        chat = "messages" in body
        prompts = [body["messages"][-1]["content"]] if chat else body["prompt"]
        prompts = [prompts] if isinstance(prompts, str) else prompts
        choices = []
        for prompt in prompts:
            for choice in range(count):
                self.bought[prompt, body.get("seed", 0), choice] += 1
                text = self.text(prompt, body.get("seed", 0), choice)
                said = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
                choices.append({"index": len(choices), "finish_reason": "stop", **said})
        usage = {"prompt_tokens": 3 * len(prompts), "completion_tokens": 2 * len(choices)}
        return {"choices": choices, "usage": usage}

    def text(self, prompt: str, seed: int, choice: int) -> str:
        return f" text {seed} {choice} of {len(prompt)}"


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


def reset_at_once() -> Fault:
    async def play(request: web.Request, body: dict[str, Any]) -> None:
        assert request.transport is not None
        request.transport.abort()
        await asyncio.sleep(60)

    return play


def fewer(server: FaultServer, count: int) -> Fault:
    async def play(request: web.Request, body: dict[str, Any]) -> web.Response:
        return web.json_response(server.complete(body, min(count, body["n"])))

    return play


def at_most(count: int) -> Fault:
    """llama.cpp's answer to n above its number of slots."""

    async def play(request: web.Request, body: dict[str, Any]) -> web.Response | None:
        if body["n"] > count:
            return web.Response(status=400, text='{"error": {"message": "n_choices must be smaller"}}')
        return None

    return play


def hang(seconds: float) -> Fault:
    async def play(request: web.Request, body: dict[str, Any]) -> None:
        await asyncio.sleep(seconds)

    return play


def trickle(server: FaultServer, seconds: float) -> Fault:
    """A body that comes a byte at a time and takes this long."""

    async def play(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        content = json.dumps(server.complete(body, body["n"])).encode()
        response = web.StreamResponse(headers={"Content-Length": str(len(content))})
        await response.prepare(request)
        for place in range(0, len(content), 16):
            await response.write(content[place : place + 16])
            await asyncio.sleep(seconds * 16 / len(content))
        return response

    return play


def same_text() -> Fault:
    async def play(request: web.Request, body: dict[str, Any]) -> web.Response:
        rows = [{"index": n, "text": " the same", "finish_reason": "stop"} for n in range(body["n"])]
        return web.json_response({"choices": rows})

    return play
