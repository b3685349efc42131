"""How fast the teacher's client is: requests a second, memory, and the resuming of a large ledger.

    python benchmarks/teacher_client.py throughput     # beside raw aiohttp and AsyncOpenAI, in the same run
    python benchmarks/teacher_client.py memory         # a million completions pending
    python benchmarks/teacher_client.py resume         # a ledger of a million rows

The canned server runs in a process of its own on one core, the client on another. Figures are medians of `--rounds`
rounds, the three clients taking turns within a round, so that other work on the machine falls on all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import openai
import typer

from ftcot_jax.tasks.question import Question
from ftcot_jax.tasks.templates import zero_shot_cot_prompt
from ftcot_jax.teacher.sampler import sample
from ftcot_jax.teacher.settings import TeacherSettings

app = typer.Typer(add_completion=False)
_QUESTION = "Number {}: there were 5 apples in the basket, 3 more were bought and then 2 were eaten. How many are left?"


@contextlib.contextmanager
def canned_server(choices: int) -> Iterator[str]:
    """Serves on the first core and keeps this process to the last one."""
    cores = sorted(os.sched_getaffinity(0))
    command = [sys.executable, str(Path(__file__).with_name("canned_server.py")), str(choices), str(cores[0])]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        os.sched_setaffinity(0, {cores[-1]})
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        finally:
            os.sched_setaffinity(0, set(cores))
            process.stdin.close()


def _questions(count: int) -> list[Question]:
    return [Question(number, _QUESTION.format(number), "6") for number in range(count)]


async def _raw_aiohttp(url: str, count: int, choices: int, concurrency: int) -> None:
    waiting = iter(_questions(count))
    connector = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def work() -> None:
            for question in waiting:
                async with session.post(f"{url}/completions", json=_body(question, choices)) as response:
                    assert len(json.loads(await response.read())["choices"]) == choices

        await asyncio.gather(*(work() for _ in range(concurrency)))


async def _async_openai(url: str, count: int, choices: int, concurrency: int) -> None:
    waiting = iter(_questions(count))
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:

        async def work() -> None:
            for question in waiting:
                answer = await client.completions.create(**_body(question, choices))
                assert len(answer.choices) == choices

        await asyncio.gather(*(work() for _ in range(concurrency)))


def _body(question: Question, choices: int) -> dict:
    prompt = zero_shot_cot_prompt(question.question)
    return {"model": "teacher", "prompt": prompt, "n": choices, "temperature": 0.7, "max_tokens": 128, "seed": 1}


def _ours(url: str, count: int, choices: int, concurrency: int) -> None:
    settings = TeacherSettings(endpoint=url, model="teacher", diversity=choices, seed=1, concurrency=concurrency)
    with tempfile.TemporaryDirectory(dir=".") as folder:
        sampled = sample(settings, _questions(count // 2), Path(folder) / "ledger.sqlite")
        assert sampled.account.answered >= count  # the probe is there too


@app.command()
def throughput(requests: int = 8000, choices: int = 1, concurrency: int = 256, rounds: int = 3) -> None:
    """Requests a second of raw aiohttp, of this client with its ledger on, and of AsyncOpenAI."""
    speeds: dict[str, list[tuple[float, float]]] = {"raw aiohttp": [], "ours, ledger on": [], "AsyncOpenAI": []}
    with canned_server(choices) as url:
        for _ in range(rounds):
            with _timed(requests, speeds["raw aiohttp"]):
                asyncio.run(_raw_aiohttp(url, requests, choices, concurrency))
            with _timed(requests, speeds["ours, ledger on"]):
                _ours(url, requests, choices, concurrency)
            with _timed(requests // 8, speeds["AsyncOpenAI"]):
                asyncio.run(_async_openai(url, requests // 8, choices, concurrency))
    for kind, name in enumerate(("requests/s", "requests/s of the client's own processor time")):
        medians = {client: statistics.median(row[kind] for row in rows) for client, rows in speeds.items()}
        print(f"{name}: " + ", ".join(f"{client} {speed:.0f}" for client, speed in medians.items()))
        ours = medians["ours, ledger on"]
        print(f"  ours / raw aiohttp {ours / medians['raw aiohttp']:.2f} (goal 0.7)")
        print(f"  ours / AsyncOpenAI {ours / medians['AsyncOpenAI']:.1f} (goal 5)")


@contextlib.contextmanager
def _timed(requests: int, speeds: list[tuple[float, float]]) -> Iterator[None]:
    """Notes requests a second of the wall clock and of processor time; the second also holds on a busy machine."""
    wall, processor = time.perf_counter(), time.process_time()
    yield
    speeds.append((requests / (time.perf_counter() - wall), requests / (time.process_time() - processor)))


def _peak_megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    app()
