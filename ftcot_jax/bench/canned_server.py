"""A server that answers every POST with the same bytes, faster than any client under test can ask.

Run as a program it keeps to one core, prints its port, and serves until its standard input closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator

_MODELS = json.dumps({"data": [{"id": "teacher", "max_model_len": 4096}]}).encode()
_RATIONALE = " He starts with 5 apples and buys 3 more, so there are 5 + 3 = 8 of them, and 2 are eaten. So 8 - 2 = 6."


def completion_body(choices: int) -> bytes:
    """An OpenAI completion answer with that many choices of about a hundred characters, all different."""
    rows = [
        {"index": n, "text": f"{_RATIONALE} {n}", "logprobs": None, "finish_reason": "stop"} for n in range(choices)
    ]
    usage = {"prompt_tokens": 40, "completion_tokens": 30 * choices, "total_tokens": 40 + 30 * choices}
    head = {"id": "cmpl-0123456789", "object": "text_completion", "created": 1, "model": "teacher"}
    return json.dumps({**head, "choices": rows, "usage": usage}).encode()


@contextlib.contextmanager
def canned_server(choices: int) -> Iterator[str]:
    """Serves answers of so many choices on the first core, in a process of its own; yields the base URL."""
    command = [sys.executable, "-m", "ftcot_jax.bench.canned_server", str(choices)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            process.stdin.close()


def keep_to_core(place: int) -> None:
    """Keeps this process to the first core (0) or the last one (-1) of those it may use, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[place]})


class CannedProtocol(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, just enough of it: the request's length is read, its content is not."""

    def __init__(self, answer: bytes) -> None:
        self._answer, self._models = _response(answer), _response(_MODELS)
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            place = head.find(b"content-length:")
            length = int(head[place + 15 :].split(b"\r\n", 1)[0]) if place >= 0 else 0
            if len(self._buffer) < end + 4 + length:
                return
            self._buffer = self._buffer[end + 4 + length :]
            self._transport.write(self._models if head.startswith(b"get") else self._answer)


def _response(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


async def _serve(choices: int) -> None:
    loop = asyncio.get_running_loop()
    body = completion_body(choices)
    server = await loop.create_server(lambda: CannedProtocol(body), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    keep_to_core(0)
    asyncio.run(_serve(int(sys.argv[1])))
