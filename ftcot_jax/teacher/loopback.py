"""Serving the programmatic teacher on loopback as an OpenAI-compatible HTTP endpoint."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from typing import Any

from aiohttp import web

from ftcot_jax.teacher.weekday_teacher import WeekdayTeacher

_MODEL = "loopback-weekday_tracking"


@contextlib.contextmanager
def serve_weekday_teacher(seed: int, slip_rate: float, wordings: int, orders: int) -> Iterator[str]:
    """Serves a `WeekdayTeacher` from a thread of this process; yields the endpoint's base URL."""
    app = web.Application()
    app.add_routes(
        [
            web.get("/v1/models", _models),
            web.post("/v1/completions", _Completions(WeekdayTeacher(seed, slip_rate, wordings, orders)).answer),
        ]
    )
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(app, access_log=None)
    loop.run_until_complete(runner.setup())
    site = web.TCPSite(runner, "127.0.0.1", 0)
    loop.run_until_complete(site.start())
    port = runner.addresses[0][1]
    thread = threading.Thread(target=loop.run_forever, name="loopback-teacher", daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _models(request: web.Request) -> web.Response:
    return web.json_response({"object": "list", "data": [{"id": _MODEL, "object": "model"}]})


class _Completions:
    """The /v1/completions route: prompt a text or a list of texts, n, seed."""

    def __init__(self, teacher: WeekdayTeacher) -> None:
        self._teacher = teacher

    async def answer(self, request: web.Request) -> web.Response:
        try:
            body = await request.json()
            prompts = [body["prompt"]] if isinstance(body["prompt"], str) else list(body["prompt"])
            count, seed = int(body.get("n") or 1), int(body.get("seed") or 0)
            texts = [self._teacher.complete(prompt, seed, choice) for prompt in prompts for choice in range(count)]
        except (KeyError, TypeError, ValueError, json.JSONDecodeError) as error:
            problem = {"message": f"{type(error).__name__}: {error}", "type": "invalid_request_error"}
            return web.json_response({"error": problem}, status=400)
        return web.json_response(_completion(body, prompts, texts))


def _completion(body: dict[str, Any], prompts: list[str], texts: list[str]) -> dict[str, Any]:
    written, read = sum(len(text.split()) for text in texts), sum(len(prompt.split()) for prompt in prompts)
    return {
        "object": "text_completion",
        "model": body.get("model", _MODEL),
        "choices": [{"index": place, "text": text, "finish_reason": "stop"} for place, text in enumerate(texts)],
        "usage": {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written},
    }
