"""The lines of batch files: requests going out, results coming back, sorted by what they are worth."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from ftcot_jax.teacher.api_state import Line, LineResult
from ftcot_jax.teacher.wire import Answer, Lost, Passing, Wire


def request_line(custom_id: str, wire: Wire, prompt: str, count: int, seed: int | None) -> bytes:
    """One line of a batch file, with its newline."""
    head = json.dumps({"custom_id": custom_id, "method": "POST", "url": f"/v1{wire.path}"})[:-1]
    return head.encode() + b', "body": ' + wire.request([prompt], count, seed) + b"}\n"


def read_body(body: Any, wire: Wire, count: int) -> Answer | None:
    """What a parsed answer holds, at most `count` samples; None if it is no answer."""
    try:
        return wire.answer(json.dumps(body).encode(), 1, count)
    except (Passing, Lost):
        return None


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


def read_results(files: Iterable[bytes], lines: Sequence[Line], wire: Wire) -> Reading:
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
            results.append(_result(row, line, wire))
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


def _result(row: dict[str, Any], line: Line, wire: Wire) -> LineResult:
    response = row.get("response") if isinstance(row.get("response"), dict) else {}
    assert isinstance(response, dict)
    status, body, error = response.get("status_code"), response.get("body"), row.get("error")
    if status == 200 and not error:
        answer = read_body(body, wire, len(line.numbers))
        if answer is None:
            return LineResult(line.custom_id, "failed: an answer without choices")
        return LineResult(line.custom_id, "answered", tuple(answer.samples[0]), *answer.usage)
    problem = error or body
    code, message = _code(problem), _message(problem)
    if status in (401, 403) or "insufficient_quota" in code or (status == 404 and "model" in message.lower()):
        return LineResult(line.custom_id, f"fatal: HTTP {status}: {message or code}")
    if isinstance(status, int) and 400 <= status < 500 and status not in (408, 409, 429):
        return LineResult(line.custom_id, f"refused: HTTP {status}: {message or code}")
    if code in ("batch_expired", "batch_cancelled"):
        return LineResult(line.custom_id, code.removeprefix("batch_"))
    return LineResult(line.custom_id, f"failed: {f'HTTP {status}' if status else message or code or 'no response'}")


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
