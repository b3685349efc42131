"""An account at an OpenAI-compatible API: its files and what is made of them, each created once.

The `openai` package sends the requests, with its own retries off: they would create and pay again. Reading is
repeated freely; creating is repeated only after the server's lists have shown that the last try had no effect.
"""

from __future__ import annotations

import dataclasses
import json
import math
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ftcot_jax.errors import FtcotError
from ftcot_jax.teacher.api_state import ApiState
from ftcot_jax.teacher.key import read_key

if TYPE_CHECKING:
    import openai

_FIRST_WAIT_SECONDS = 1.0
_LONGEST_WAIT_SECONDS = 60.0
_LONGEST_ASKED_SECONDS = 3600.0
_PAGE = 100  # rows a page of a list; the most that compatible servers allow

T = TypeVar("T")


@dataclasses.dataclass(eq=False)
class Again(Exception):
    """A request worth sending again; `effect_known` if the server surely did nothing."""

    reason: str
    wait: float | None
    effect_known: bool


class RefusedRequest(FtcotError):
    """The server will not do this one thing (HTTP 4xx); others may go on."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class OpenAIAccount:
    """Talks to one API with one key.

    Args:
      endpoint: base URL, such as https://api.openai.com/v1.
      key_env: environment variable with the key; may be unset for servers that need none.
      timeout_seconds: longest single request.
      attempts: tries of one request before the run stops.
      settle_seconds: how long after an unanswered creation the lists are trusted to show its effect.

    Raises:
      UsageError: the key has characters that no key has.
    """

    def __init__(
        self, endpoint: str, key_env: str, *, timeout_seconds: float, attempts: int, settle_seconds: float
    ) -> None:
        import openai  # takes two seconds, which only runs that use an API should spend

        self.endpoint = endpoint.rstrip("/")
        self._key_env, self.attempts, self._settle_seconds = key_env, attempts, settle_seconds
        self._key = read_key(key_env)
        self.client: openai.OpenAI = openai.OpenAI(
            base_url=self.endpoint, api_key=self._key or "none", max_retries=0, timeout=timeout_seconds
        )

    def __enter__(self) -> OpenAIAccount:
        return self

    def __exit__(self, *error: object) -> None:
        self.client.close()

    def read(self, call: Callable[[], T]) -> T:
        """Returns what a request without effect answers, asking again while that can help.

        Raises:
          FtcotError: the server keeps failing, or refuses.
        """
        for tries in range(1, self.attempts + 1):
            try:
                return self.attempt(call)
            except Again as problem:
                last = problem
                if tries < self.attempts:
                    time.sleep(pause(tries, problem.wait))
        raise FtcotError(
            f"{self.endpoint} failed {self.attempts} times in a row ({last.reason}); everything created is written "
            "down, run the same command to go on"
        )

    def create_once(
        self,
        state: ApiState,
        kind: str,
        key: str,
        *,
        find: Callable[[], str | None],
        create: Callable[[], str],
    ) -> str:
        """Returns the server's id of the thing `key`, creating it only if it is nowhere.

        Args:
          state: where intents are written.
          kind: what it is, such as "batch".
          key: its content address, by which `find` knows it again.
          find: looks for it in the server's lists.
          create: sends the request and returns the id.

        Raises:
          FtcotError: the server refuses it, or keeps failing.
        """
        tries = 0
        while True:
            intent = state.intent(kind, key)
            if intent.remote_id is not None:
                return intent.remote_id
            found = find()
            if found is None and intent.sent_at is not None:
                self._settle(intent.sent_at)
                found = find()
            if found is not None:
                state.created(kind, key, found, adopted=True)
                return found
            state.sending(kind, key)
            try:
                made = self.attempt(create)
            except Again as problem:
                if problem.effect_known:
                    state.not_created(kind, key)
                tries += 1
                if tries >= self.attempts:
                    raise FtcotError(
                        f"{self.endpoint} failed {tries} times in a row to create a {kind} ({problem.reason}); run the "
                        "same command to go on: it looks for what was created before it creates anything"
                    ) from None
                time.sleep(pause(tries, problem.wait))
            except FtcotError:
                state.not_created(kind, key)
                raise
            else:
                state.created(kind, key, made, adopted=False)
                return made

    def exists(self, state: ApiState, kind: str, key: str, find: Callable[[], str | None]) -> bool:
        """Whether a thing whose creation was sent is there; adopts it if so. Creates nothing."""
        intent = state.intent(kind, key)
        if intent.remote_id is None and intent.sent_at is not None:
            self._settle(intent.sent_at)
            found = find()
            if found is None:
                return False
            state.created(kind, key, found, adopted=True)
            return True
        return intent.remote_id is not None

    def upload_once(
        self, state: ApiState, key: str, path: Path, name: str, purpose: Literal["batch", "fine-tune"]
    ) -> str:
        """Returns the id of an uploaded file; one of this name, size and purpose at the server is adopted."""
        size = path.stat().st_size

        def find() -> str | None:
            files = self.listed(lambda after: self.client.files.list(purpose=purpose, limit=_PAGE, **after))
            ours = (file for file in files if file.filename == name and file.status != "error")
            return next((str(file.id) for file in ours if not file.bytes or file.bytes == size), None)

        def create() -> str:
            with path.open("rb") as stream:
                return with_id(self.client.files.create(file=(name, stream), purpose=purpose)).id

        return self.create_once(state, f"{purpose} file", key, find=find, create=create)

    def download(self, file_id: str) -> bytes:
        """The content of a file at the server, without the key, should the server repeat it in an error."""
        content = self.read(lambda: self.client.files.content(file_id).content)
        return content.replace(self._key.encode(), b"***") if self._key else content

    def listed(self, page: Callable[[dict[str, Any]], Any]) -> Iterator[Any]:
        """Every row of a list at the server, page by page; a server that ignores the cursor ends it."""
        seen: set[str] = set()
        after: dict[str, Any] = {}
        while True:
            cursor = dict(after)
            answer = self.read(lambda: _list_page(page, cursor))  # noqa: B023 - called before the next turn
            fresh = [row for row in answer.data if row.id not in seen]
            yield from fresh
            seen.update(row.id for row in fresh)
            if not fresh or getattr(answer, "has_more", None) is False:
                return
            after = {"after": fresh[-1].id}

    def redact(self, text: str) -> str:
        """The text without the key, should a server repeat it."""
        return text.replace(self._key, "***") if self._key else text

    def _settle(self, sent_at: float) -> None:
        """Waits until the lists can be trusted to show what was sent then."""
        elapsed = max(0.0, time.time() - sent_at)  # a clock set back must not wait for hours
        time.sleep(max(0.0, self._settle_seconds - elapsed))

    def attempt(self, call: Callable[[], T]) -> T:
        """Calls once, and sorts what goes wrong.

        Raises:
          Again: it may go better another time.
          RefusedRequest: this request will never be answered.
          FtcotError: the key, or the account, is refused.
        """
        import openai

        try:
            return call()
        except openai.APIStatusError as error:
            raise self._status_problem(error) from None
        except openai.APITimeoutError:
            raise Again("no answer in time", None, effect_known=False) from None
        except openai.APIConnectionError as error:
            reason = self.redact(str(error.__cause__ or error))
            raise Again(f"connection: {reason}", None, effect_known=False) from None
        except (json.JSONDecodeError, openai.APIResponseValidationError, UnicodeDecodeError):
            raise Again("HTTP 200 with a broken answer", None, effect_known=False) from None

    def _status_problem(self, error: openai.APIStatusError) -> Exception:
        status, message = error.status_code, self.redact(server_message(error.body or error.message))
        if status in (401, 403):
            state = "was refused" if self._key else "is missing"
            return FtcotError(f"{self.endpoint}: the API key {state} (HTTP {status}); set {self._key_env}")
        if status == 429 and "insufficient_quota" in str(error.body):
            return FtcotError(f"{self.endpoint}: the account's quota is used up; what was bought is written down")
        if status == 429:
            return Again("HTTP 429", _seconds(error.response.headers.get("Retry-After")), effect_known=True)
        if status in (408, 409) or status >= 500:
            return Again(f"HTTP {status}", _seconds(error.response.headers.get("Retry-After")), effect_known=False)
        return RefusedRequest(f"{self.endpoint}: HTTP {status}: {message}", status)


def with_id(answer: T) -> T:
    """The answer, if it is an object of the API; one without an id tells nothing of a creation's effect."""
    made = getattr(answer, "id", None)
    if not isinstance(made, str) or not made:
        raise Again("HTTP 200 without an id", None, effect_known=False)
    return answer


def _list_page(page: Callable[[dict[str, Any]], Any], cursor: dict[str, Any]) -> Any:
    """A page of a list; a proxy's HTML with HTTP 200 is none, and the package trips over it."""
    try:
        answer = page(cursor)
    except AttributeError:
        answer = None
    if not isinstance(getattr(answer, "data", None), list):
        raise Again("HTTP 200 without a list", None, effect_known=True)
    return answer


def server_message(body: object) -> str:
    """The server's reason, however it wraps it, in one short line."""
    while isinstance(body, dict):
        body = body.get("error") or body.get("message") or body.get("detail") or json.dumps(body)
    return " ".join(str(body).split())[:200]


def pause(tries: int, asked: float | None) -> float:
    """Seconds before the next try: what the server asked for or a doubling wait, and up to half of it more."""
    wait = asked if asked is not None else min(_LONGEST_WAIT_SECONDS, _FIRST_WAIT_SECONDS * 2 ** (tries - 1))
    return wait * (1 + random.random() / 2)


def _seconds(after: str | None) -> float | None:
    """What a Retry-After header asks for, an hour at most; None for an HTTP date: the usual wait will do."""
    try:
        asked = float(after) if after is not None else math.nan
    except ValueError:
        return None
    return None if math.isnan(asked) else min(max(0.0, asked), _LONGEST_ASKED_SECONDS)
