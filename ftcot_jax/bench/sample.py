"""``ftcot bench sample``: how fast the teacher's client, ledger included, buys completions beside raw aiohttp."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ftcot_jax.bench.canned_server import canned_server
from ftcot_jax.bench.sample_client import CLIENTS, OURS, RAW, Job
from ftcot_jax.bench.table import Row, Spread, check_writable, publish
from ftcot_jax.errors import FtcotError, UsageError

_SLOW = "AsyncOpenAI"  # an eighth of the work is enough to measure it by
_Turn = dict[str, dict[str, Any]]  # client -> what it took


def bench_sample(
    *,
    requests: int,
    choices: Sequence[int],
    concurrency: int,
    repeats: int,
    endpoint: str | None,
    model: str | None,
    folder: str,
    json_file: str | None,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Measures the clients, each in a process of its own, taking turns; returns all figures as JSON values.

    Without an endpoint a canned server answers, on a core of its own, faster than any client asks. Raw aiohttp is the
    limit: it sends the same requests, parses the answers, and keeps nothing.

    Args:
      requests: of each client and turn.
      choices: completions a request; measured for each of these.
      concurrency: requests in flight.
      repeats: turns.
      endpoint: base URL of an OpenAI-compatible server that is measured in place of the canned one, and paid.
      model: its name there.
      folder: where the ledgers lie while they are measured; their disk counts.
      json_file: receives the figures.
      say: receives lines.

    Raises:
      UsageError: an endpoint without a model or the other way round, or a folder that is not there.
      FtcotError: the endpoint cannot be used.
    """
    if (endpoint is None) != (model is None):
        raise UsageError("bench sample: give --endpoint and --model together, or neither for a canned server")
    if not os.path.isdir(folder):
        raise UsageError(f"--folder {folder}: there is no such folder")
    check_writable(json_file)
    cores = os.cpu_count() or 1
    if cores < 2 and endpoint is None:
        say("one core only: server and client share it, and all clients look slower and more alike than they are")
    rows: list[Row] = []
    turns_by_choices: dict[str, list[_Turn]] = {}
    for count in choices:
        if endpoint is not None:
            clients = len(CLIENTS) - 1
            total = repeats * count * (clients * requests + max(1, requests // 8))
            say(f"{total} completions will be bought from {endpoint}, {count} a request, by all clients together")
        with _served(endpoint, count) as url:
            first = Job(OURS, url, model or "teacher", requests, count, concurrency, 0, 0, folder)
            turns = [_turn(first, turn, warm_up=endpoint is None, say=say) for turn in range(repeats)]
        turns_by_choices[str(count)] = turns
        rows += _rows(count, turns)
    return publish(
        {
            "command": "bench sample",
            "endpoint": endpoint or "canned",
            "requests": requests,
            "concurrency": concurrency,
            "repeats": repeats,
            "cores": cores,
            "rows": rows,
            "turns": turns_by_choices,
        },
        json_file,
        say,
    )


def _served(endpoint: str | None, choices: int) -> contextlib.AbstractContextManager[str]:
    return canned_server(choices) if endpoint is None else contextlib.nullcontext(endpoint.rstrip("/"))


def _turn(job: Job, turn: int, warm_up: bool, say: Callable[[str], None]) -> _Turn:
    """Every client once; every other turn in the other order, so that none always finds the prompts cached."""
    took: _Turn = {}
    for client in list(CLIENTS)[:: -1 if turn % 2 else 1]:
        count = max(1, job.requests // 8) if client == _SLOW else job.requests
        given = dataclasses.replace(
            job, client=client, requests=count, first=turn * job.requests, warm_up=-(-count // 10) if warm_up else 0
        )
        took[client] = _do(given)
    speeds = ", ".join(f"{client} {_speed(took[client]):.0f}" for client in CLIENTS)
    say(f"n = {job.choices}, turn {turn + 1}: completions/s: {speeds}")
    return took


def _do(job: Job) -> dict[str, Any]:
    command = [sys.executable, "-m", "ftcot_jax.bench.sample_client", json.dumps(dataclasses.asdict(job))]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise FtcotError(f"bench sample: the process of {job.client} ended early; its own message is above")
    took: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if "problem" in took:
        raise FtcotError(took["problem"])
    return took


def _speed(took: dict[str, Any]) -> float:
    return float(took["completions"] / took["seconds"])


def _cpu(took: dict[str, Any]) -> float:
    """Processor seconds a thousand completions."""
    return float(1000 * took["cpu_seconds"] / took["completions"])


def _rows(choices: int, turns: Sequence[_Turn]) -> Iterator[Row]:
    for client in CLIENTS:
        mine, limits = [turn[client] for turn in turns], [turn[RAW] for turn in turns]
        pairs = list(zip(mine, limits, strict=True))
        yield {
            "client": client,
            "n": choices,
            "completions/s": Spread.of([_speed(took) for took in mine]),
            "tokens/s": Spread.of([took["tokens"] / took["seconds"] for took in mine]),
            "CPU s a thousand": Spread.of([_cpu(took) for took in mine]),
            "peak memory, MB": max(took["peak_bytes"] for took in mine) / 1e6,
            "of raw aiohttp's speed": Spread.of([_speed(took) / _speed(limit) for took, limit in pairs]),
            "by CPU time": Spread.of([_cpu(limit) / _cpu(took) for took, limit in pairs]),
        }
