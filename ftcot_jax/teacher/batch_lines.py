"""The lines of batch files: requests going out, results coming back, sorted by what they are worth."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from ftcot_jax.teacher.api_state import Line, LineResult
from ftcot_jax.teacher.ledger import Sample

Form = Literal["completions", "chat"]
URLS = {"completions": "/v1/completions", "chat": "/v1/chat/completions"}


@dataclasses.dataclass(frozen=True, slots=True)
class Sampling:
    """Settings one request is made with, apart from its prompt and n."""

    model: str
    form: Form
    temperature: float
    max_tokens: int
    stop: tuple[str, ...] = ()

    def body(self, prompt: str, count: int, seed: int | None) -> dict[str, Any]:
        """The JSON body that asks for `count` samples of a prompt; in chat form the prompt is one user message."""
        body: dict[str, Any] = {"model": self.model, "n": count, "temperature": self.temperature}
        if self.form == "chat":
            # Servers agree on this name for chat, and reasoning models refuse the older one.
            body |= {"messages": [{"role": "user", "content": prompt}], "max_completion_tokens": self.max_tokens}
        else:
            body |= {"prompt": prompt, "max_tokens": self.max_tokens}
        if self.stop:
            body["stop"] = list(self.stop)
        if seed is not None:
            body["seed"] = seed
        return body

    def identity(self) -> dict[str, Any]:
        """What decides the samples of a prompt, as JSON values."""
        return dataclasses.asdict(self) | {"stop": list(self.stop)}


def request_line(custom_id: str, form: Form, body: dict[str, Any]) -> bytes:
    """One line of a batch file, with its newline."""
    row = {"custom_id": custom_id, "method": "POST", "url": URLS[form], "body": body}
    return json.dumps(row, ensure_ascii=False).encode() + b"\n"


def read_choices(body: Any, form: Form, wanted: int) -> tuple[Sample, ...]:
    """The texts of an answer, at most `wanted`, in the order of their index; none if it is no answer.

    The reasoning a chat server sends beside the message is put before it, between think tags, as models write it.
    """
    try:
        choices = sorted(body["choices"], key=lambda choice: choice.get("index", 0))
        texts = [choice["text"] if form == "completions" else _spoken(choice["message"]) for choice in choices]
        reasons = [choice.get("finish_reason") for choice in choices]
    except (KeyError, TypeError, AttributeError):
        return ()
    return tuple(Sample(_writable(text), reason) for text, reason in zip(texts, reasons, strict=True))[:wanted]


def _writable(text: object) -> str:
    """The text without the half characters that a JSON escape can hold and no file or database can."""
    return ("" if text is None else str(text)).encode(errors="replace").decode()


def split_thinking(text: str) -> tuple[str | None, str]:
    """The reasoning in a text, None if it has none, and the rest; a text that was cut off may lack the closing tag."""
    opened = text.lstrip()
    if opened.startswith("<think>"):
        thought, _, rest = opened.removeprefix("<think>").partition("</think>")
        return thought.strip(), rest.lstrip()
    thought, closed, rest = text.partition("</think>")  # some chat templates write the opening tag themselves
    return (thought.strip(), rest.lstrip()) if closed else (None, text)


def usage_tokens(body: Any) -> tuple[int, int]:
    """(prompt, completion) tokens of an answer, zero where the server does not say."""
    usage = body.get("usage") if isinstance(body, dict) else None
    counts = [usage.get(name) if isinstance(usage, dict) else None for name in ("prompt_tokens", "completion_tokens")]
    prompt, completion = (count if isinstance(count, int) else 0 for count in counts)
    return prompt, completion


@dataclasses.dataclass(frozen=True)
class Reading:
    """What a batch's files hold.

    Attributes:
      results: of our lines, each at most once.
      broken: rows that are no JSON objects, as a cut file's last one.
      foreign: rows of no line of ours, or of one that already has a result.
    """

    results: list[LineResult]
    broken: int
    foreign: int


def count_rows(file: bytes) -> int:
    """Whole rows in a file of results."""
    return sum(row is not None for row in _rows([file]))


def read_results(files: Iterable[bytes], lines: Sequence[Line], form: Form) -> Reading:
    """Sorts the rows of output and error files."""
    waiting = {line.custom_id: line for line in lines}
    results: list[LineResult] = []
    broken = foreign = 0
    for row in _rows(files):
        if row is None:
            broken += 1
            continue
        line = waiting.pop(str(row.get("custom_id")), None)
        if line is None:
            foreign += 1
        else:
            results.append(_result(row, line, form))
    return Reading(results, broken, foreign)


def _rows(files: Iterable[bytes]) -> Iterator[dict[str, Any] | None]:
    for file in files:
        for text in file.split(b"\n"):
            if text.strip():
                try:
                    row = json.loads(text)
                except ValueError:  # broken JSON or broken UTF-8
                    row = None
                yield row if isinstance(row, dict) else None


def _result(row: dict[str, Any], line: Line, form: Form) -> LineResult:
    response = row.get("response") if isinstance(row.get("response"), dict) else {}
    assert isinstance(response, dict)
    status, body, error = response.get("status_code"), response.get("body"), row.get("error")
    if status == 200 and not error:
        samples = read_choices(body, form, len(line.numbers))
        if not samples:
            return LineResult(line.custom_id, "failed: an answer without choices")
        return LineResult(line.custom_id, "answered", samples, *usage_tokens(body))
    problem = error or body
    code, message = _code(problem), _message(problem)
    if status in (401, 403) or "insufficient_quota" in code or (status == 404 and "model" in message.lower()):
        return LineResult(line.custom_id, f"fatal: HTTP {status}: {message or code}")
    if isinstance(status, int) and 400 <= status < 500 and status not in (408, 409, 429):
        return LineResult(line.custom_id, f"refused: HTTP {status}: {message or code}")
    if code in ("batch_expired", "batch_cancelled"):
        return LineResult(line.custom_id, code.removeprefix("batch_"))
    return LineResult(line.custom_id, f"failed: {f'HTTP {status}' if status else message or code or 'no response'}")


def _spoken(message: dict[str, Any]) -> str:
    content = str(message.get("content") or "")
    reasoning = message.get("reasoning_content") or message.get("reasoning")
    return f"<think>\n{reasoning}\n</think>\n{content}" if reasoning else content


def _code(problem: Any) -> str:
    """The error code, at whatever depth it is."""
    if not isinstance(problem, dict):
        return ""
    inner = problem.get("error")
    return _code(inner) if isinstance(inner, dict) else str(problem.get("code") or problem.get("type") or "")


def _message(problem: Any) -> str:
    while isinstance(problem, dict):
        problem = problem.get("error") or problem.get("message") or problem.get("detail")
    return " ".join(str(problem or "").split())[:200]
