"""One of the clients that ``ftcot bench sample`` compares, in a process of its own, so that its memory is its own.

Run as a program it takes a job as JSON on the command line, keeps to the last core, does a tenth of the work to warm up
where that costs nothing, then all of it, and prints what it took as one line of JSON.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import sys
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from ftcot_jax.bench.canned_server import keep_to_core
from ftcot_jax.bench.usage import measure
from ftcot_jax.errors import FtcotError
from ftcot_jax.tasks.question import Question

KEY_ENV = "OPENAI_API_KEY"
_QUESTION = "Number {}: there were 5 apples in the basket, 3 more were bought and then 2 were eaten. How many are left?"


@dataclasses.dataclass(frozen=True)
class Job:
    """What a client is to buy.

    Attributes:
      client: one of `CLIENTS`.
      url: base URL of the endpoint.
      model: its name there.
      requests: one for each question.
      choices: completions a request, n.
      concurrency: requests in flight at most.
      warm_up: requests before those that are measured.
      first: number of the first question.
      folder: where a ledger may lie.
    """

    client: str
    url: str
    model: str
    requests: int
    choices: int
    concurrency: int
    warm_up: int
    first: int
    folder: str

    def questions(self) -> list[Question]:
        return [canned_question(self.first + number) for number in range(self.requests)]

    def bodies(self) -> list[dict[str, Any]]:
        """What a client that knows nothing of questions sends."""
        from ftcot_jax.tasks.templates import zero_shot_cot_prompt

        return [
            {
                "model": self.model,
                "prompt": zero_shot_cot_prompt(question.question),
                "n": self.choices,
                "temperature": 0.7,
                "max_tokens": 128,
                "seed": 1,
            }
            for question in self.questions()
        ]


@dataclasses.dataclass
class Bought:
    """Completions and their tokens, prompts' included."""

    completions: int = 0
    tokens: int = 0


def canned_question(number: int) -> Question:
    """A question like many others."""
    return Question(number, _QUESTION.format(number), "6")


def _ours(job: Job) -> Bought:
    from ftcot_jax.teacher.plan import ZERO_SHOT_COT, PromptPlan
    from ftcot_jax.teacher.sampler import sample
    from ftcot_jax.teacher.settings import TeacherSettings

    settings = TeacherSettings(
        endpoint=job.url,
        model=job.model,
        diversity=job.choices,
        samples_per_request=job.choices,
        seed=1,
        concurrency=job.concurrency,
    )
    one_step = PromptPlan("zs", ZERO_SHOT_COT.first, None)  # a request a question, as the other clients send
    with tempfile.TemporaryDirectory(dir=job.folder) as folder:
        done = sample(settings, job.questions(), Path(folder) / "ledger.sqlite", plan=one_step, dataset="bench")
        if done.refused:
            raise FtcotError(f"{job.url} refused {len(done.refused)} requests: {next(iter(done.refused.values()))}")
        rows = [row for row in done.report if row[0] == "bench"]  # the probe is left out
        return Bought(job.requests * job.choices, sum(row[3] + row[4] for row in rows))


async def _raw_aiohttp(job: Job) -> Bought:
    import aiohttp

    bought, waiting = Bought(), iter(job.bodies())
    key = os.environ.get(KEY_ENV)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    connector = aiohttp.TCPConnector(limit=job.concurrency)
    async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

        async def work() -> None:
            for body in waiting:
                async with session.post(f"{job.url}/completions", json=body) as response:
                    answer = await response.read()
                if response.status != 200:
                    raise FtcotError(f"{job.url}: HTTP {response.status} to a client that does not ask again")
                _count(bought, json.loads(answer))

        try:
            await asyncio.gather(*(work() for _ in range(job.concurrency)))
        except (aiohttp.ClientError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error or type(error).__name__
            raise FtcotError(f"{job.url} cannot be used ({reason})") from error
    return bought


def _count(bought: Bought, answer: dict[str, Any]) -> None:
    bought.completions += len(answer["choices"])
    usage = answer.get("usage") or {}
    bought.tokens += (usage.get("prompt_tokens") or 0) + (usage.get("completion_tokens") or 0)


async def _async_openai(job: Job) -> Bought:
    import openai

    bought, waiting = Bought(), iter(job.bodies())
    key = os.environ.get(KEY_ENV, "none")
    async with openai.AsyncOpenAI(base_url=job.url, api_key=key, max_retries=0) as client:

        async def work() -> None:
            for body in waiting:
                answer = await client.completions.create(**body)
                bought.completions += len(answer.choices)
                bought.tokens += answer.usage.total_tokens if answer.usage else 0

        try:
            await asyncio.gather(*(work() for _ in range(job.concurrency)))
        except openai.OpenAIError as error:
            raise FtcotError(f"{job.url} cannot be used ({str(error).splitlines()[0]})") from error
    return bought


def _on_asyncio(work: Callable[[Job], Coroutine[Any, Any, Bought]]) -> Callable[[Job], Bought]:
    return lambda job: asyncio.run(work(job))


def _on_uvloop(work: Callable[[Job], Coroutine[Any, Any, Bought]]) -> Callable[[Job], Bought]:
    def run(job: Job) -> Bought:
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work(job))

    return run


OURS, RAW = "ours, ledger on", "raw aiohttp"
CLIENTS: dict[str, Callable[[Job], Bought]] = {
    RAW: _on_asyncio(_raw_aiohttp),
    "raw aiohttp on uvloop": _on_uvloop(_raw_aiohttp),
    OURS: _ours,
    "AsyncOpenAI": _on_asyncio(_async_openai),
}


def do(job: Job) -> dict[str, Any]:
    """The job's figures.

    Raises:
      FtcotError: the endpoint cannot be used, or gave less than was asked for.
    """
    client = CLIENTS[job.client]
    if job.warm_up:
        client(dataclasses.replace(job, requests=job.warm_up, first=job.first + job.requests))
    bought = Bought()

    def work() -> None:
        nonlocal bought
        bought = client(job)

    usage = measure(work)
    if bought.completions != job.requests * job.choices:
        wanted = f"{job.requests * job.choices} were asked for"
        raise FtcotError(
            f"{job.url} gave {job.client} {bought.completions} completions where {wanted}; lower --choices"
        )
    return dataclasses.asdict(usage) | dataclasses.asdict(bought)


if __name__ == "__main__":
    keep_to_core(-1)
    try:
        print(json.dumps(do(Job(**json.loads(sys.argv[1])))))
    except FtcotError as problem:
        print(json.dumps({"problem": str(problem)}))
