"""One endpoint: its connections, how busy it may be kept, how fast it has been, and whether it is up."""

from __future__ import annotations

import asyncio
import dataclasses
import email.utils
import json
import math
from collections.abc import Mapping
from typing import Any

import aiohttp

from ftcot_jax.errors import FtcotError, UsageError, nearest
from ftcot_jax.teacher.key import read_key
from ftcot_jax.teacher.limits import AdaptiveLimit, Bucket, backoff
from ftcot_jax.teacher.settings import TeacherSettings
from ftcot_jax.teacher.wire import Answer, Lost, Passing, Throttled, Wire, check_status

_FAILURES_TO_SET_ASIDE = 3
_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 60.0
_OLD_SHARE = 0.9


class Unreachable(FtcotError):
    """There is no server at an address, now."""


@dataclasses.dataclass(frozen=True)
class Abilities:
    """What an endpoint really does, as probed.

    Attributes:
      largest_n: samples a request at most; 1 where n is ignored or refused.
      distinct: samples at temperature above 0 differ; None: not tried.
      usage_summed: completion_tokens counts all choices, not one.
      stop_excluded: the text ends before the stop string; None: not found out. (We cut it off in any case.)
      prompt_lists: a list of prompts is answered in one request.
      context_length: in tokens, if the server tells.
      renamed_limit: max_tokens is called max_completion_tokens, as OpenAI's reasoning models insist.
    """

    largest_n: int = 1024
    distinct: bool | None = None
    usage_summed: bool = True
    stop_excluded: bool | None = None
    prompt_lists: bool = False
    context_length: int | None = None
    renamed_limit: bool = False


class Endpoint:
    """One server of the model.

    Args:
      session: an open HTTP session.
      settings: the teacher.
      url: base URL.

    Attributes:
      abilities: what it can do; set by the probe.
      limit: requests in flight.
      deaths: times it was set aside.
      failed_rounds: the same, since it last answered.
    """

    def __init__(self, session: aiohttp.ClientSession, settings: TeacherSettings, url: str) -> None:
        self.url, self.abilities = url, Abilities()
        self.limit = AdaptiveLimit(settings.concurrency)
        self.deaths = 0
        self._session, self._settings = session, settings
        self._loop = asyncio.get_running_loop()
        self._key = read_key(settings.key_env)
        self._headers = {"Content-Type": "application/json"}
        if self._key:
            self._headers["Authorization"] = f"Bearer {self._key}"
        self._timeout = aiohttp.ClientTimeout(total=settings.timeout_seconds, sock_connect=10)
        now = self._loop.time()
        self._requests = Bucket(settings.requests_per_minute, now)
        self._tokens = Bucket(settings.tokens_per_minute, now)
        self._not_before = 0.0
        self._failures, self.failed_rounds, self._aside_at = 0, 0, float("-inf")
        self._seconds_each = 0.0  # answer time over the requests it shared the server with, smoothed

    async def models(self) -> list[Mapping[str, Any]]:
        """The rows of GET /models; empty where the server has no such list.

        Raises:
          Unreachable: no connection.
          FtcotError: it refuses the key.
        """
        try:
            async with self._session.get(
                f"{self.url}/models", headers=self._headers, timeout=aiohttp.ClientTimeout(total=10)
            ) as response:
                body = self._without_key(await response.read())
                if response.status in (401, 403):
                    check_status(response.status, body, None, self._settings.key_env, bool(self._key), self.url)
                listed = json.loads(body) if response.status == 200 else None
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unreachable(
                f"teacher.endpoint: {self.url} cannot be reached ({error or type(error).__name__})"
            ) from error
        except ValueError:
            listed = None
        rows = listed.get("data") if isinstance(listed, dict) else None
        return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []

    async def check(self) -> Mapping[str, Any]:
        """Looks our model up in the server's list before any purchase; returns its row, or an empty one.

        Raises:
          FtcotError: as `models`.
          UsageError: the server lists its models and ours is not among them.
        """
        rows = {str(row.get("id")): row for row in await self.models()}
        if not rows or self._settings.model is None or self._settings.model in rows:
            return rows.get(self._settings.model_name, {})
        hint = nearest(self._settings.model, rows) or f"; it has {', '.join(list(rows)[:5])}"
        raise UsageError(f"teacher.model: {self.url} has no model '{self._settings.model}'{hint}")

    def wait(self, tokens: float) -> float:
        """Seconds before it may be asked for so many tokens, as far as time alone decides."""
        now = self._loop.time()
        return max(self._not_before - now, self._requests.wait(1.0, now), self._tokens.wait(tokens, now))

    def expected_seconds(self) -> float:
        """When a request sent now may be answered: what one costs, times those it would share the server with."""
        return self._seconds_each * (self.limit.in_flight + 1)

    def reserve(self, tokens: float) -> None:
        """Takes one request's place and allowance; `post` or `release` gives the place back."""
        now = self._loop.time()
        self.limit.in_flight += 1
        self._requests.take(1.0, now)
        self._tokens.take(tokens, now)

    def release(self) -> None:
        self.limit.in_flight -= 1

    async def post(self, wire: Wire, body: bytes, prompts: int, count: int, tokens: float) -> Answer:
        """Sends one request for which `reserve` was called.

        Raises:
          Throttled, Passing, Lost, Refused, FtcotError: as in `wire`.
        """
        sent_at, shared = self._loop.time(), self.limit.in_flight
        if self.abilities.renamed_limit:
            body = body.replace(b'"max_tokens":', b'"max_completion_tokens":', 1)
        try:
            async with self._session.post(
                f"{self.url}{wire.path}", data=body, headers=self._headers, timeout=self._timeout
            ) as response:
                content = self._without_key(await response.read())
            if response.status != 200:
                after = _seconds(response.headers.get("Retry-After"), response.headers.get("Date"))
                check_status(response.status, content, after, self._settings.key_env, bool(self._key), self.url)
            answer = wire.answer(content, prompts, count)
        except aiohttp.ClientConnectorError as error:
            self._failed(sent_at)
            raise Passing(f"cannot connect: {error.os_error.strerror or error}", self.url) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            if isinstance(error, TimeoutError):
                self.limit.throttled(sent_at, self._loop.time())
            self._failed(sent_at)
            raise Lost(str(error) or f"no answer in {self._settings.timeout_seconds:g} s", self.url) from error
        except Throttled as error:
            now = self._loop.time()
            self.limit.throttled(sent_at, now)
            asked = _FIRST_WAIT_SECONDS if error.wait is None else error.wait
            pause = backoff(1, asked, longest=max(asked, _LONGEST_WAIT_SECONDS))
            self._not_before = max(self._not_before, now + pause)
            raise
        except (Passing, Lost) as error:
            self._failed(sent_at)
            raise type(error)(str(error), self.url) from error
        now = self._loop.time()
        self._failures = self.failed_rounds = 0
        self.limit.succeeded()
        each = (now - sent_at) / shared
        old = self._seconds_each or each
        self._seconds_each = _OLD_SHARE * old + (1 - _OLD_SHARE) * each
        if tokens:
            self._tokens.take(sum(answer.usage) - tokens, now)
        return answer

    def _failed(self, sent_at: float) -> None:
        """Three failures in a row set the endpoint aside, for longer each time; one request then tries it again."""
        if sent_at < self._aside_at:
            return  # one of many that were under way when it went down
        self._failures += 1
        if self._failures >= _FAILURES_TO_SET_ASIDE:
            self.deaths += 1
            self._aside_at = self._loop.time()
            self.failed_rounds += 1
            pause = backoff(self.failed_rounds, _FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS)
            self._not_before = max(self._not_before, self._aside_at + pause)

    def set_aside(self) -> None:
        """Leaves it alone for a while, as after three failures in a row."""
        self._failures = _FAILURES_TO_SET_ASIDE - 1
        self._failed(self._loop.time())

    def _without_key(self, content: bytes) -> bytes:
        """Some servers repeat the key in their errors, which go into the ledger and the log."""
        return content.replace(self._key.encode(), b"(key)") if self._key else content

    @property
    def on_trial(self) -> bool:
        """It was set aside and has not answered since: one request at a time may find out."""
        return self._failures >= _FAILURES_TO_SET_ASIDE


def _seconds(after: str | None, date: str | None) -> float | None:
    """A Retry-After header in seconds; a date counts from the server's own clock, not from ours."""
    if after is None:
        return None
    try:
        return max(0.0, float(after)) if math.isfinite(float(after)) else None
    except ValueError:
        pass
    try:
        until, now = (email.utils.parsedate_to_datetime(text or "") for text in (after, date))
    except ValueError:
        return None
    return max(0.0, (until - now).total_seconds())
