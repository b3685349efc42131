"""One request to an OpenAI-compatible server: sent, retried where that can help, and sorted where it cannot."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import random
from typing import Any

import aiohttp

from ftcot_jax.errors import FtcotError, UsageError, nearest
from ftcot_jax.teacher.ledger import Ledger, Sample, request_identity
from ftcot_jax.teacher.settings import TeacherSettings

_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 60.0


class Refused(Exception):
    """The server will never answer this one request (its prompt is too long, say); others may go on."""


@dataclasses.dataclass(eq=False)
class _Retry(Exception):
    """Worth sending again, after `wait` seconds if the server named a time; perhaps paid if its outcome is unknown."""

    reason: str
    wait: float | None = None
    outcome_known: bool = True


class Client:
    """Buys samples from one endpoint through the ledger.

    Args:
      session: an open HTTP session.
      settings: the teacher.
      endpoint: base URL.
      ledger: where purchases are written down.
    """

    def __init__(
        self, session: aiohttp.ClientSession, settings: TeacherSettings, endpoint: str, ledger: Ledger
    ) -> None:
        self._session, self._settings, self._ledger = session, settings, ledger
        self._endpoint = endpoint.rstrip("/")
        key = os.environ.get(settings.key_env)
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._timeout = aiohttp.ClientTimeout(total=settings.timeout_seconds)
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._source = {name: settings.identity()[name] for name in ("endpoint", "loopback", "model", "seed")}
        if settings.loopback:
            self._source |= {name: settings.identity()[name] for name in ("slip_rate", "wordings", "orders")}

    async def check(self) -> None:
        """Asks the server for its models before any purchase.

        Raises:
          FtcotError: it cannot be reached, or refuses the key.
          UsageError: it lists its models and ours is not among them.
        """
        try:
            async with self._session.get(
                f"{self._endpoint}/models", headers=self._headers, timeout=aiohttp.ClientTimeout(total=10)
            ) as response:
                self._raise_fatal(response.status, await response.text())
                listed = await response.json(content_type=None) if response.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, json.JSONDecodeError) as error:
            raise FtcotError(
                f"teacher.endpoint: {self._endpoint} cannot be reached ({error or type(error).__name__})"
            ) from error
        rows = listed.get("data") if isinstance(listed, dict) else None
        names = [str(row.get("id")) for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
        if names and self._settings.model is not None and self._settings.model not in names:
            hint = nearest(self._settings.model, names) or f"; it has {', '.join(names[:5])}"
            raise UsageError(f"teacher.model: {self._endpoint} has no model '{self._settings.model}'{hint}")

    async def samples(self, prompt: str, count: int, temperature: float, max_tokens: int) -> list[Sample]:
        """Returns samples number 0..count-1 of a prompt, buying those the ledger does not have.

        Raises:
          Refused: the server will not answer this prompt.
          FtcotError: the server keeps failing, or refuses us altogether.
        """
        sampling = {"temperature": temperature, "max_tokens": max_tokens}
        request = request_identity(self._source, prompt, sampling)
        have = self._ledger.samples(request)
        tries = 0
        while missing := [number for number in range(count) if number not in have]:
            body = {"model": self._settings.model_name, "prompt": prompt, "n": len(missing), **sampling}
            if self._settings.seed is not None:
                # Samples asked for later, or again, must not repeat those of an earlier request.
                body["seed"] = (self._settings.seed * 1_000_003 + missing[0]) % 2**31
            async with self._slots:
                attempt = self._ledger.begin(request, missing)
                try:
                    texts, usage = await self._send(body)
                except _Retry as problem:
                    if problem.outcome_known:
                        self._ledger.failed(attempt, problem.reason)
                    tries += 1
                    if tries >= self._settings.attempts:
                        raise FtcotError(
                            f"{self._endpoint} failed {tries} times in a row ({problem.reason}); what was bought is in "
                            "the ledger, run the same command to go on"
                        ) from None
                    wait = problem.wait
                except (Refused, FtcotError) as problem:
                    self._ledger.failed(attempt, str(problem))
                    raise
                else:
                    bought = dict(zip(missing, texts, strict=False))
                    self._ledger.answered(attempt, request, bought, usage)
                    have |= bought
                    tries = 0
                    continue
            await asyncio.sleep(_pause(tries, wait))
        return [have[number] for number in range(count)]

    async def _send(self, body: dict[str, Any]) -> tuple[list[Sample], tuple[int, int]]:
        """Posts one request; returns its texts, at least one and at most n, and (prompt, completion) tokens."""
        try:
            async with self._session.post(
                f"{self._endpoint}/completions", json=body, headers=self._headers, timeout=self._timeout
            ) as response:
                text = await response.text()
                status, after = response.status, response.headers.get("Retry-After")
        except aiohttp.ClientConnectorError as error:
            raise _Retry(f"cannot connect: {error.os_error.strerror or error}") from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _Retry(str(error) or type(error).__name__, outcome_known=False) from error
        self._raise_fatal(status, text)
        if status == 429 or status == 408 or status >= 500:
            raise _Retry(f"HTTP {status}", _seconds(after))
        if status != 200:
            raise Refused(f"HTTP {status}: {_message(text)}")
        return _parse(text, body["n"])

    def _raise_fatal(self, status: int, text: str) -> None:
        """Raises FtcotError for answers that every other request would get too."""
        message = _message(text)
        if status in (401, 403):
            state = "was refused" if self._headers else "is missing"
            raise FtcotError(f"{self._endpoint}: the API key {state} (HTTP {status}); set {self._settings.key_env}")
        if status == 404 and "model" in message.lower():
            raise FtcotError(f"{self._endpoint}: HTTP 404: {message}; check teacher.model")
        if status == 429 and "insufficient_quota" in text:
            raise FtcotError(f"{self._endpoint}: the account's quota is used up; what was bought is in the ledger")


def _parse(text: str, wanted: int) -> tuple[list[Sample], tuple[int, int]]:
    try:
        answer = json.loads(text)
        choices = sorted(answer["choices"], key=lambda choice: choice.get("index", 0))
        samples = [Sample(str(choice["text"]), choice.get("finish_reason")) for choice in choices][:wanted]
    except (KeyError, TypeError, AttributeError) as error:
        raise _Retry(f"HTTP 200 with another answer: {_message(text)}") from error
    except json.JSONDecodeError as error:
        page = text.lstrip().startswith("<")  # a proxy's error page costs nothing; half an answer was paid for
        raise _Retry("HTTP 200 with broken JSON", outcome_known=page) from error
    if not samples:
        raise _Retry("an answer without choices")
    usage = answer.get("usage") or {}
    return samples, (int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0))


def _message(text: str) -> str:
    """The server's reason, however it wraps it, in one short line."""
    try:
        answer = json.loads(text)
        problem = answer.get("error", answer)
        reason = problem.get("message") or problem.get("detail") if isinstance(problem, dict) else problem
    except (json.JSONDecodeError, AttributeError):
        reason = text
    return " ".join(str(reason).split())[:200]


def _seconds(after: str | None) -> float | None:
    try:
        return None if after is None else max(0.0, float(after))
    except ValueError:
        return None  # an HTTP date; the usual waiting time will do


def _pause(tries: int, asked: float | None) -> float:
    """Seconds before the next try: what the server asked for or a doubling wait, and up to half of it more."""
    wait = asked if asked is not None else min(_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2 ** (tries - 1))
    return wait * (1 + random.random() / 2)
