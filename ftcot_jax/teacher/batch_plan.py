"""What is wanted of the teacher, cut into batch files."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Sequence

from ftcot_jax.errors import UsageError
from ftcot_jax.teacher.api_state import Line
from ftcot_jax.teacher.batch_lines import request_line
from ftcot_jax.teacher.buyer import Want
from ftcot_jax.teacher.wire import Wire


@dataclasses.dataclass(frozen=True, slots=True)
class Order:
    """Samples of a prompt that are missing.

    Attributes:
      want: the prompt, its content address, and the numbers of the samples.
      sample_index, completion_index: the first completion that needs them; the index is of an answer, and None for
        the first step, whose samples are the completions.
    """

    want: Want
    sample_index: int
    completion_index: int | None = None

    def custom_id(self, number: int) -> str:
        """Names a request by question, completion and step."""
        if self.completion_index is None:
            return f"q{self.sample_index}-c{number}-s1"
        return f"q{self.sample_index}-c{self.completion_index}-s2"


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
    orders: Iterable[tuple[Order, Sequence[int]]],
    wire: Wire,
    seed: int | None,
    *,
    choices: int,
    max_requests: int,
    max_bytes: int,
) -> Iterator[Part]:
    """Yields files that together ask for all that is missing, in order.

    Args:
      orders: what is wanted and the numbers of the samples to ask for.
      wire: makes the requests.
      seed: of the run; each request gets one of its own, so that no two samples of a prompt repeat each other.
      choices: samples in one request at most.
      max_requests, max_bytes: of one file.

    Raises:
      UsageError: one request alone is larger than a file may be.
    """
    lines: list[Line] = []
    text = bytearray()
    for order, numbers in orders:
        for start in range(0, len(numbers), choices):
            asked = tuple(numbers[start : start + choices])
            custom_id = order.custom_id(asked[0])
            own_seed = None if seed is None else (seed * 1_000_003 + asked[0]) % 2**31
            row = request_line(custom_id, wire, order.want.prompt, len(asked), own_seed)
            if len(row) > max_bytes:
                raise UsageError(f"teacher.batch.max_bytes: request {custom_id} alone has {len(row)} bytes; raise it")
            if len(lines) >= max_requests or len(text) + len(row) > max_bytes:
                yield Part(lines, bytes(text))
                lines, text = [], bytearray()
            lines.append(Line(custom_id, order.want.request, asked))
            text += row
    if lines:
        yield Part(lines, bytes(text))
