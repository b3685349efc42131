"""Two-step Zero-shot-CoT over a whole question set: a rationale at temperature, then its answer at zero."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import aiohttp

from ftcot_jax.errors import FtcotError
from ftcot_jax.tasks.question import Question
from ftcot_jax.tasks.templates import answer_prompt, zero_shot_cot_prompt
from ftcot_jax.teacher.client import Client, Refused
from ftcot_jax.teacher.completion import Completion
from ftcot_jax.teacher.ledger import Account, Ledger
from ftcot_jax.teacher.loopback import serve_weekday_teacher
from ftcot_jax.teacher.settings import TeacherSettings

_IDENTICAL_QUESTIONS = 5

Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class Sampled:
    """What a teacher wrote.

    Attributes:
      completions: ordered by question and completion index.
      refused: sample index to the server's reason, for questions it will not answer.
      account: the ledger's counts afterwards.
    """

    completions: list[Completion]
    refused: dict[int, str]
    account: Account


def sample(
    settings: TeacherSettings, questions: Sequence[Question], ledger: Path, on_progress: Progress | None = None
) -> Sampled:
    """Brings `settings.diversity` completions of every question, buying only what the ledger lacks.

    Args:
      settings: the teacher, with an endpoint or a loopback.
      questions: what to ask.
      ledger: the SQLite file of purchases; made if missing.
      on_progress: called with (questions done, questions in all).

    Raises:
      FtcotError: the endpoint cannot be used; everything bought so far is in the ledger.
    """
    with _endpoint(settings) as endpoint, contextlib.closing(Ledger(ledger)) as book:
        return asyncio.run(_sample(settings, endpoint, questions, book, on_progress))


@contextlib.contextmanager
def _endpoint(settings: TeacherSettings) -> Iterator[str]:
    if settings.endpoint is not None:
        yield settings.endpoint
        return
    assert settings.loopback is not None  # the settings allow sampling from nothing else
    with serve_weekday_teacher(settings.seed or 0, settings.slip_rate, settings.wordings, settings.orders) as url:
        yield url


async def _sample(
    settings: TeacherSettings,
    endpoint: str,
    questions: Sequence[Question],
    ledger: Ledger,
    on_progress: Progress | None,
) -> Sampled:
    done: list[Completion] = []
    refused: dict[int, str] = {}
    waiting = iter(questions)
    repeats = _Repeats(settings)

    async def work(client: Client) -> None:
        for question in waiting:  # one iterator for all workers: each question goes to whoever is free
            try:
                rows = await _ask(client, settings, question)
            except Refused as reason:
                refused[question.sample_index] = str(reason)
            else:
                repeats.note(rows)
                done.extend(rows)
            if on_progress is not None:
                on_progress(len({row.sample_index for row in done}) + len(refused), len(questions))

    connector = aiohttp.TCPConnector(limit=settings.concurrency)
    async with aiohttp.ClientSession(connector=connector) as session:
        client = Client(session, settings, endpoint, ledger)
        await client.check()
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(settings.concurrency, len(questions))):
                    group.create_task(work(client))
        except* FtcotError as errors:
            raise errors.exceptions[0] from None
        except* sqlite3.Error as errors:
            raise FtcotError(
                f"the ledger cannot be written ({errors.exceptions[0]}); what was bought before is in it: make room "
                "and run the same command again"
            ) from None
    done.sort(key=lambda row: (row.sample_index, row.completion_index))
    return Sampled(done, refused, ledger.account())


async def _ask(client: Client, settings: TeacherSettings, question: Question) -> list[Completion]:
    """Both steps for one question; the second step's requests run side by side."""
    prompt = zero_shot_cot_prompt(question.question)
    rationales = await client.samples(prompt, settings.diversity, settings.temperature, settings.max_tokens)
    prompts = [answer_prompt(prompt, rationale.text) for rationale in rationales]
    distinct = list(dict.fromkeys(prompts))  # equal rationales share one answer
    asked = [client.samples(text, 1, 0.0, settings.answer_max_tokens) for text in distinct]
    answers = dict(zip(distinct, await asyncio.gather(*asked), strict=True))
    return [
        Completion(
            sample_index=question.sample_index,
            completion_index=number,
            question=question.question,
            answer=question.answer,
            reasoning_prompt=prompt,
            reasoning_completion=rationale.text,
            reasoning_finish_reason=rationale.finish_reason,
            prompt=step_two,
            completion=answers[step_two][0].text,
            finish_reason=answers[step_two][0].finish_reason,
        )
        for number, (rationale, step_two) in enumerate(zip(rationales, prompts, strict=True))
    ]


class _Repeats:
    """Stops a run whose endpoint returns the same text for every sample: it ignores temperature or seed."""

    def __init__(self, settings: TeacherSettings) -> None:
        self._watching = settings.diversity > 1
        self._identical = 0

    def note(self, rows: Sequence[Completion]) -> None:
        if not self._watching:
            return
        if len({row.reasoning_completion for row in rows}) > 1:
            self._watching = False
            return
        self._identical += 1
        if self._identical >= _IDENTICAL_QUESTIONS:
            raise FtcotError(
                f"all {len(rows)} rationales of the first {self._identical} questions are identical: the endpoint "
                "ignores temperature or seed; check its sampling settings, or set teacher.diversity=1"
            )
