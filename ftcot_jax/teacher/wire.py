"""The two request formats, /completions and /chat/completions: a request's bytes, and the samples in its answer."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pydantic_core

from ftcot_jax.errors import FtcotError
from ftcot_jax.teacher.ledger import Sample
from ftcot_jax.teacher.plan import Conversation


class Refused(Exception):
    """The server will never answer this one request (its prompt is too long, say); others may go on."""


class Throttled(Exception):
    """The server has too much to do, now or for this key; `wait` is the seconds it asks for, if it says.

    Attributes:
      wait: seconds or None.
    """

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class Passing(Exception):
    """The request failed and is worth sending again; nothing was bought."""


class Lost(Exception):
    """No telling what became of the request: perhaps it was paid; it is sent again and counted."""


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
      samples: for each prompt those that came, at most as many as were asked for.
      usage: (prompt, completion) tokens.
    """

    samples: list[list[Sample]]
    usage: tuple[int, int]


class Wire:
    """Requests and answers of one kind of sampling.

    Args:
      chat: /chat/completions in place of /completions.
      model: the name the server knows.
      sampling: temperature, max_tokens and, if any, stop.
    """

    def __init__(self, chat: bool, model: str, sampling: Mapping[str, Any]) -> None:
        self.path = "/chat/completions" if chat else "/completions"
        self._chat = chat
        self._stops = tuple(sampling.get("stop", ()))
        self._head = json.dumps({"model": model, **sampling})[:-1]

    def request(self, prompts: Sequence[str], count: int, seed: int | None) -> bytes:
        """The body that asks for `count` samples of each prompt; several prompts only over /completions."""
        seeded = "" if seed is None else f', "seed": {seed}'
        if self._chat:
            prompt = prompts[0]
            turns = prompt.messages if isinstance(prompt, Conversation) else [{"role": "user", "content": prompt}]
            asked = f'"messages": {json.dumps(turns)}'
        else:
            asked = f'"prompt": {json.dumps(prompts[0] if len(prompts) == 1 else list(prompts))}'
        return f'{self._head}, "n": {count}{seeded}, {asked}}}'.encode()

    def answer(self, body: bytes, prompts: int, count: int) -> Answer:
        """Reads a 200's body.

        Raises:
          Passing: it is an error, or has no choices.
          Lost: it breaks off.
        """
        try:
            raw = _parsed(body)
            choices = raw["choices"]
            samples: list[list[Sample]] = [[] for _ in range(prompts)]
            if prompts == 1:
                samples[0] = [self._sample(choice) for choice in sorted(choices, key=_index)[:count]]
            else:
                for choice in choices:
                    if len(samples[choice["index"] // count]) < count:
                        samples[choice["index"] // count].append(self._sample(choice))
            usage = raw.get("usage")
            tokens = (_count(usage, "prompt_tokens"), _count(usage, "completion_tokens"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            if body.lstrip().startswith(b"<"):  # a proxy's error page costs nothing; half an answer was paid for
                raise Passing("HTTP 200 with an HTML page") from error
            raise Lost("HTTP 200 with broken JSON") from error
        except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
            raise Passing(f"HTTP 200 with another answer: {message(body)}") from error
        if not any(samples):
            raise Passing("an answer without choices")
        return Answer(samples, tokens)

    def _sample(self, choice: Mapping[str, Any]) -> Sample:
        reasoning = None
        if self._chat:
            said = choice["message"]
            text = said.get("content") or said.get("refusal") or ""
            reasoning = said.get("reasoning_content") or said.get("reasoning") or None
        else:
            text = choice["text"] or ""
        if not text.isascii():
            text = text.encode(errors="replace").decode()  # half of a character cannot be stored
        for stop in self._stops:  # some servers leave the stop string in the text
            text = text.partition(stop)[0]
        return Sample(text, choice.get("finish_reason"), reasoning)


def _parsed(body: bytes) -> Any:
    """A JSON body by pydantic's parser, a third to five times as fast as Python's.

    Raises:
      json.JSONDecodeError, UnicodeDecodeError: it is none.
    """
    try:
        return pydantic_core.from_json(body)
    except ValueError:
        return json.loads(body)  # it takes half of a character too, which some servers write


def _count(usage: Any, name: str) -> int:
    """A count of tokens; 0 if it is none, for an answer that was paid for must not be lost for it."""
    count = usage.get(name) if isinstance(usage, dict) else None
    return count if isinstance(count, int) and 0 <= count < 2**53 else 0


def _index(choice: Mapping[str, Any]) -> int:
    return choice.get("index") or 0


def split_thinking(sample: Sample) -> tuple[str | None, str]:
    """A sample's reasoning, None if it has none, and its text without it.

    Reasoning comes apart from the text, or in it as ``<think>...</think>``, of which the chat template may have written
    the opening tag already and of which a text that was cut off lacks the closing one.
    """
    if sample.reasoning is not None:
        return sample.reasoning.strip(), sample.text
    if "think>" not in sample.text:
        return None, sample.text
    opened = sample.text.lstrip()
    if opened.startswith("<think>"):
        thought, _, rest = opened.removeprefix("<think>").partition("</think>")
        return thought.strip(), rest.lstrip()
    thought, closed, rest = sample.text.partition("</think>")
    return (thought.strip(), rest.lstrip()) if closed else (None, sample.text)


def check_status(status: int, body: bytes, retry_after: float | None, key_env: str, has_key: bool, url: str) -> None:
    """Sorts an answer by its HTTP status.

    Raises:
      FtcotError: every other request would be told the same.
      Throttled, Lost, Passing, Refused: as each is documented.
    """
    if status == 200:
        return
    reason = message(body)
    if status in (401, 403):
        state = "was refused" if has_key else "is missing"
        raise FtcotError(f"{url}: the API key {state} (HTTP {status}); set {key_env}")
    if status == 404:
        raise FtcotError(f"{url}: HTTP 404: {reason}; check teacher.model and teacher.endpoint")
    if status in (402, 429) and (status == 402 or b"insufficient_quota" in body):
        raise FtcotError(f"{url}: the account's quota is used up; what was bought is in the ledger")
    if status in (429, 503, 529):
        raise Throttled(f"HTTP {status}", retry_after)
    if status in (408, 504, 524):
        raise Lost(f"HTTP {status}")  # a gateway gave up waiting; the model behind it may not have
    if status >= 500:
        raise Passing(f"HTTP {status}")
    raise Refused(f"HTTP {status}: {reason}")


def message(body: bytes) -> str:
    """The server's reason, however it wraps it, in one short line."""
    text = body.decode(errors="replace")
    try:
        answer = json.loads(text)
        problem = answer.get("error", answer)
        reason = problem.get("message") or problem.get("detail") if isinstance(problem, dict) else problem
    except (json.JSONDecodeError, AttributeError):
        reason = text
    return " ".join(str(reason).split())[:200]
