"""How fast the teacher's client is: requests a second, memory, and the resuming of a large ledger.

    python -m benchmarks.teacher_client throughput     # beside raw aiohttp and AsyncOpenAI, in the same run
    python -m benchmarks.teacher_client memory         # a million completions pending
    python -m benchmarks.teacher_client resume         # a ledger of a million rows

The canned server runs in a process of its own on one core, the client on another. Figures are medians of `--rounds`
rounds, the three clients taking turns within a round, so that other work on the machine falls on all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import typer
import uvloop

from ftcot_jax.tasks.question import Question
from ftcot_jax.tasks.templates import zero_shot_cot_prompt
from ftcot_jax.teacher.endpoint import Abilities
from ftcot_jax.teacher.ledger import Intent, Ledger, Outcome, Sample
from ftcot_jax.teacher.plan import ZERO_SHOT_COT, PromptPlan
from ftcot_jax.teacher.probe import fact_name
from ftcot_jax.teacher.sampler import Interrupted, sample
from ftcot_jax.teacher.settings import TeacherSettings
from ftcot_jax.teacher.stock import Stockroom
from ftcot_jax.teacher.tally import Tally

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
    import openai  # a third of the memory that another command measures

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
    one_step = PromptPlan("zs", ZERO_SHOT_COT.first, None)  # a request a question, as the other clients send
    with tempfile.TemporaryDirectory(dir=".") as folder:
        sampled = sample(settings, _questions(count), Path(folder) / "ledger.sqlite", plan=one_step)
        assert sampled.account.answered >= count  # the probe is there too


@app.command()
def throughput(requests: int = 8000, choices: int = 1, concurrency: int = 256, rounds: int = 3) -> None:
    """Requests a second of raw aiohttp, of this client with its ledger on, and of AsyncOpenAI."""
    clients = ("raw aiohttp", "raw aiohttp on uvloop", "ours, ledger on", "AsyncOpenAI")
    speeds: dict[str, list[tuple[float, float]]] = {client: [] for client in clients}
    with canned_server(choices) as url:
        for _ in range(rounds):
            with _timed(requests, speeds["raw aiohttp"]):
                asyncio.run(_raw_aiohttp(url, requests, choices, concurrency))
            with (
                _timed(requests, speeds["raw aiohttp on uvloop"]),
                asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
            ):
                runner.run(_raw_aiohttp(url, requests, choices, concurrency))
            with _timed(requests, speeds["ours, ledger on"]):
                _ours(url, requests, choices, concurrency)
            with _timed(requests // 8, speeds["AsyncOpenAI"]):
                asyncio.run(_async_openai(url, requests // 8, choices, concurrency))
    for kind, name in enumerate(("requests/s", "requests/s of the client's own processor time")):
        medians = {client: statistics.median(row[kind] for row in rows) for client, rows in speeds.items()}
        print(f"{name}: " + ", ".join(f"{client} {speed:.0f}" for client, speed in medians.items()))
        ours = medians["ours, ledger on"]
        on_uvloop = ours / medians["raw aiohttp on uvloop"]
        print(f"  ours / raw aiohttp {ours / medians['raw aiohttp']:.2f} (goal 0.7), on uvloop too {on_uvloop:.2f}")
        print(f"  ours / AsyncOpenAI {ours / medians['AsyncOpenAI']:.1f} (goal 5)")


@contextlib.contextmanager
def _timed(requests: int, speeds: list[tuple[float, float]]) -> Iterator[None]:
    """Notes requests a second of the wall clock and of processor time; the second also holds on a busy machine."""
    wall, processor = time.perf_counter(), time.process_time()
    yield
    speeds.append((requests / (time.perf_counter() - wall), requests / (time.process_time() - processor)))


@app.command()
def memory(completions: int = 1_000_000, diversity: int = 1, seconds: float = 15.0) -> None:
    """Peak memory with that many completions pending; Ctrl-C is sent to it after some seconds."""
    questions = _ManyQuestions(completions // diversity)
    before = _peak_megabytes()
    with canned_server(diversity) as url, tempfile.TemporaryDirectory(dir=".") as folder:
        settings = TeacherSettings(endpoint=url, model="teacher", diversity=diversity, seed=1, concurrency=256)
        threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)).start()
        last: list[Tally] = []
        with contextlib.suppress(Interrupted):
            sample(settings, questions, Path(folder) / "ledger.sqlite", last.append)
    done = last[-1].done * diversity
    print(f"{len(questions) * diversity} completions wanted, {done} bought in {seconds:.0f} s, the others pending")
    print(f"peak memory {_peak_megabytes():.0f} MB (goal 500), of which {before:.0f} MB before the first question")


@app.command()
def resume(rows: int = 1_000_000, diversity: int = 64) -> None:
    """Seconds until a run finds that a ledger of that many samples lacks nothing, and to read all completions."""
    questions = _ManyQuestions(rows // (2 * diversity))
    with canned_server(diversity) as url, tempfile.TemporaryDirectory(dir=".") as folder:
        settings = TeacherSettings(endpoint=url, model="teacher", diversity=diversity, seed=1, concurrency=256)
        file = Path(folder) / "ledger.sqlite"
        began = time.perf_counter()
        count = _fill_ledger(settings, questions, file)
        print(f"{count} samples written in {time.perf_counter() - began:.1f} s, {file.stat().st_size / 1e6:.0f} MB")
        began, processor = time.perf_counter(), time.process_time()
        sampled = sample(settings, questions, file)
        seconds = f"{time.perf_counter() - began:.1f} s, {time.process_time() - processor:.1f} s of processor time"
        print(f"resumed in {seconds} (goal 10)")
        began = time.perf_counter()
        print(f"{len(sampled.completions)} completions read in {time.perf_counter() - began:.1f} s")
        print(f"peak memory {_peak_megabytes():.0f} MB")


def _fill_ledger(settings: TeacherSettings, questions: Sequence[Question], file: Path) -> int:
    count = 0
    with contextlib.closing(Ledger(file)) as ledger:
        ledger.remember(fact_name(settings, settings.endpoints[0]), dataclasses.asdict(Abilities()))
        stockroom = Stockroom(settings, ZERO_SHOT_COT, ledger, "")
        for block in stockroom.blocks(questions):
            for stock in block:
                texts = {number: Sample(f" Text {number}. " + "x" * 90, "stop") for number in stock.first.numbers}
                stock.first.have.update(texts)
            wants = [stock.first for stock in block]
            wants += [want for stock in block for want in stockroom.ask_for_answers(stock)]
            intents = [Intent(want.request, want.numbers) for want in wants]
            answer = {0: Sample(" 6.", "stop")}
            outcomes = [
                Outcome(attempt, "answered", want.request, want.have or answer, (40, 30))
                for want, attempt in zip(wants, ledger.commit(intents, []), strict=True)
                if attempt is not None
            ]
            ledger.commit([], outcomes)
            count += sum(len(outcome.bought) for outcome in outcomes)
    return count


class _ManyQuestions(Sequence[Question]):
    """Questions made when they are asked for: what is measured is the sampler's memory, not a list's."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: Any) -> Any:
        if not 0 <= place < self._count:
            raise IndexError(place)
        return Question(place, _QUESTION.format(place), "6")


def _peak_megabytes() -> float:
    """Of this program: what the kernel calls a process's maximum counts the parent it was forked from too."""
    status = Path("/proc/self/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return float(peak.split()[1]) / 1024


if __name__ == "__main__":
    app()
