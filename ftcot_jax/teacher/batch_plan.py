"""What is wanted of the teacher, cut into batch files."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Sequence

from ftcot_jax.errors import UsageError
from ftcot_jax.teacher.api_state import Line
from ftcot_jax.teacher.batch_lines import Sampling, request_line


@dataclasses.dataclass(frozen=True, slots=True)
class Want:
    """Samples 0..count-1 of a prompt.

    Attributes:
      request: the prompt's content address.
      sample_index, completion_index, step: the first completion that needs it, and for which of its two steps.
    """

    request: str
    prompt: str
    count: int
    sample_index: int
    completion_index: int
    step: int


@dataclasses.dataclass(frozen=True)
class Part:
    """The lines of one batch file, and its bytes."""

    lines: list[Line]
    text: bytes

    @property
    def content(self) -> str:
        """The file's content address."""
        return hashlib.sha256(self.text).hexdigest()[:24]


def plan_parts(
    missing: Iterable[tuple[Want, Sequence[int]]],
    sampling: Sampling,
    seed: int | None,
    *,
    choices: int,
    max_requests: int,
    max_bytes: int,
) -> Iterator[Part]:
    """Yields files that together ask for all that is missing, in order.

    Args:
      missing: what is wanted and the numbers of the samples to ask for.
      sampling: of every request.
      seed: of the run; each request gets one of its own, so that no two samples of a prompt repeat each other.
      choices: samples in one request at most.
      max_requests, max_bytes: of one file.

    Raises:
      UsageError: one request alone is larger than a file may be.
    """
    lines: list[Line] = []
    text = bytearray()
    for want, numbers in missing:
        for start in range(0, len(numbers), choices):
            asked = tuple(numbers[start : start + choices])
            number = asked[0] if want.step == 1 else want.completion_index
            custom_id = f"q{want.sample_index}-c{number}-s{want.step}"
            own_seed = None if seed is None else (seed * 1_000_003 + asked[0]) % 2**31
            row = request_line(custom_id, sampling.form, sampling.body(want.prompt, len(asked), own_seed))
            if len(row) > max_bytes:
                raise UsageError(f"teacher.batch.max_bytes: request {custom_id} alone has {len(row)} bytes; raise it")
            if len(lines) >= max_requests or len(text) + len(row) > max_bytes:
                yield Part(lines, bytes(text))
                lines, text = [], bytearray()
            lines.append(Line(custom_id, want.request, asked))
            text += row
    if lines:
        yield Part(lines, bytes(text))
