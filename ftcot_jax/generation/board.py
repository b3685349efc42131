"""The rows of a batch and the texts that sit in them: seated, decoded in chunks, replaced as they end.

The host decides only between chunks of steps: which rows ended, which texts take their place, how many
columns and rows the cache needs. Rows and columns come in a few sizes, so few programs are compiled, and they
serve every student of the same shapes.
"""

from __future__ import annotations

import collections
import dataclasses
from typing import Literal

import numpy as np

from ftcot_jax.generation.decode import NOTHING, Rows, decode_chunk, prefill, rearrange
from ftcot_jax.generation.sampling import Sampling
from ftcot_jax.generation.stop_strings import StopStrings
from ftcot_jax.students.family import Params
from ftcot_jax.students.kv_cache import Cache
from ftcot_jax.students.student import Student

STEPS = 32
FinishReason = Literal["stop", "length", "prompt_too_long"]


@dataclasses.dataclass(eq=False)
class Text:
    """A text being written.

    Attributes:
      number: its place among the results.
      prefill: tokens read before decoding starts.
      start: the token that decoding starts from.
      position: of `start` in the decoder's text.
      budget: most tokens that may be written.
      seed: decides its draws.
      written: what has been.
      finish_reason: None while it goes on.
    """

    number: int
    prefill: list[int]
    start: int
    position: int
    budget: int
    seed: int = 0
    written: list[int] = dataclasses.field(default_factory=list)
    finish_reason: FinishReason | None = None

    def columns(self, steps: int) -> int:
        """Cache columns the text needs for `steps` more tokens."""
        return self.position + min(len(self.written) + steps, self.budget)


class Board:
    """The rows on the device, and which text sits in each.

    Args:
      student: the architecture.
      params: its weights.
      texts: what to write, in the order in which they are seated.
      batch_rows: most texts written at a time.
      sampling: how tokens are chosen; None for the likeliest.
      stop: finds where a text is to end besides the end token.
    """

    def __init__(
        self,
        student: Student,
        params: Params,
        texts: list[Text],
        batch_rows: int,
        sampling: Sampling | None,
        stop: StopStrings,
    ) -> None:
        self._student, self._params, self._sampling, self._stop = student, params, sampling, stop
        self._queue = collections.deque(texts)
        self._seats: list[Text | None] = [None] * min(batch_rows, _power_of_two(len(texts)))
        self._cache: Cache | None = None
        self._longest_prefill = _prompt_width(max((len(text.prefill) for text in texts), default=0))

    @property
    def busy(self) -> bool:
        return bool(self._queue) or any(self._seats)

    def advance(self) -> list[Text]:
        """Seats waiting texts, decodes one chunk, and returns the texts that ended."""
        newcomers = self._seat_newcomers()
        self._cache = self._fit_cache()
        if newcomers:
            self._cache = self._prefill(self._cache, newcomers)
        live = sum(text is not None for text in self._seats)
        # Come back early when a worthwhile share of the rows can be refilled, or most of them dropped.
        seats = len(self._seats)
        leave_at = live - max(1, seats // 8) if self._queue else min(live - 1, seats // 4)
        self._cache, written_BxN = decode_chunk(
            self._student,
            self._params,
            self._cache,
            self._rows(),
            np.int32(leave_at),
            self._sampling,
            STEPS,
        )
        return self._collect(np.asarray(written_BxN))

    def _seat_newcomers(self) -> list[Text]:
        newcomers = []
        for seat, text in enumerate(self._seats):
            if text is None and self._queue:
                self._seats[seat] = self._queue.popleft()
                newcomers.append(self._seats[seat])
        return [text for text in newcomers if text is not None]

    def _fit_cache(self) -> Cache:
        """Gives the cache the columns the next chunk needs, and drops idle rows once no text waits."""
        live = [seat for seat, text in enumerate(self._seats) if text is not None]
        idle = [seat for seat, text in enumerate(self._seats) if text is None]
        texts = [text for text in self._seats if text is not None]
        columns = _columns(max(text.columns(STEPS) for text in texts))
        rows = len(self._seats) if self._queue else _fewer_rows(len(live), len(self._seats))
        if self._cache is None:
            self._seats = self._seats[:rows]
            return self._student.empty_cache(rows, columns, self._longest_prefill)
        order = list(range(rows)) if rows == len(self._seats) else (live + idle)[:rows]
        self._seats = [self._seats[seat] for seat in order]
        if self._cache.rows == rows and self._cache.columns == columns:
            return self._cache
        return rearrange(self._cache, np.asarray(order, np.int32), columns)

    def _prefill(self, cache: Cache, newcomers: list[Text]) -> Cache:
        """Reads the newcomers' prompts into the cache, those of alike lengths together."""
        newcomers = [text for text in newcomers if text.prefill]
        while newcomers:
            size = _PREFILL_ROWS[0] if len(newcomers) > _PREFILL_ROWS[0] // 2 else _PREFILL_ROWS[1]
            cache = self._prefill_group(cache, newcomers[:size], size)
            newcomers = newcomers[size:]
        return cache

    def _prefill_group(self, cache: Cache, texts: list[Text], size: int) -> Cache:
        width = _prompt_width(max(len(text.prefill) for text in texts))
        if self._student.kind == "decoder":  # the prompt lies in the text's own columns
            width = min(width, cache.columns)
        tokens_bxT = np.zeros((size, width), np.int32)
        row_b = np.full(size, len(self._seats), np.int32)
        length_b = np.zeros(size, np.int32)
        for place, text in enumerate(texts):
            tokens_bxT[place, : len(text.prefill)] = text.prefill
            row_b[place] = self._seats.index(text)
            length_b[place] = len(text.prefill)
        return prefill(self._student, self._params, cache, row_b, tokens_bxT, length_b)

    def _rows(self) -> Rows:
        kinds = (np.int32, np.int32, np.int32, np.uint32)
        rows = Rows(*(np.zeros(len(self._seats), kind) for kind in kinds))  # type: ignore[arg-type]
        for seat, text in enumerate(self._seats):
            if text is not None:
                rows.token[seat] = text.written[-1] if text.written else text.start
                rows.position[seat] = text.position + len(text.written)
                rows.budget[seat] = text.budget - len(text.written)
                rows.seed[seat] = text.seed
        return rows

    def _collect(self, written_BxN: np.ndarray) -> list[Text]:
        """Hands each row's new tokens to its text; returns the texts that ended, their seats free again."""
        ended = []
        for seat, text in enumerate(self._seats):
            if text is None:
                continue
            tokens = written_BxN[seat]
            text.written.extend(tokens[tokens != NOTHING].tolist())
            if text.written and text.written[-1] == self._student.eos_id:
                text.written.pop()
                text.finish_reason = "stop"
            elif len(text.written) == text.budget:
                text.finish_reason = "length"
            if (kept := self._stop.tokens_before(text.written)) is not None:
                del text.written[kept:]
                text.finish_reason = "stop"
            if text.finish_reason is not None:
                ended.append(text)
                self._seats[seat] = None
        return ended


# Compiled sizes. Each shape is a program: few are compiled, at the price of some idle rows and columns.
_PREFILL_ROWS = (32, 4)


def _fewer_rows(live: int, rows: int) -> int:
    """Rows to go on with when `live` of `rows` are writing and none waits: divided by four while they fit."""
    while live <= rows // 4:
        rows //= 4
    return rows


def _power_of_two(count: int) -> int:
    return 1 << max(count - 1, 0).bit_length()


def _columns(length: int) -> int:
    """Columns of a cache for texts of up to `length` tokens: 64, 128, 256, ..."""
    return max(_power_of_two(length), 64)


def _prompt_width(length: int) -> int:
    """Width of a block of prompts: 16, 24, 32, 48, 64, ...; prefill's arithmetic grows with it."""
    power = max(_power_of_two(length), 16)
    return power * 3 // 4 if power > 16 and length <= power * 3 // 4 else power
