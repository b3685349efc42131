"""The rows of each slot and the texts that sit in them: seated, decoded in chunks, replaced as they end.

The host decides only between chunks of steps: which rows ended, which texts take their place, how many
columns and rows the cache needs. Rows and columns come in a few sizes, so few programs are compiled, and they
serve every student of the same shapes.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator
from typing import Literal, TypeVar

import numpy as np
from jax.sharding import Mesh

from ftcot_jax.generation.decode import (
    NOTHING,
    Rows,
    Weights,
    copy_rows,
    decode_chunk,
    new_cache,
    prefill,
    read_prefix,
    rearrange,
)
from ftcot_jax.generation.placement import row_shares
from ftcot_jax.generation.sampling import Sampling
from ftcot_jax.generation.stop_strings import StopStrings
from ftcot_jax.students.kv_cache import Cache
from ftcot_jax.students.student import Student

STEPS = 32
FinishReason = Literal["stop", "length", "prompt_too_long"]


@dataclasses.dataclass(eq=False)
class Text:
    """A text being written.

    Attributes:
      slot: whose student writes it.
      number: its place among the slot's results.
      prompt: number of the slot's prompt; texts of one prompt are samples, and it is read once for all in the rows.
      prefill: tokens read before decoding starts.
      start: the token that decoding starts from.
      position: of `start` in the decoder's text.
      budget: most tokens that may be written.
      seed: decides its draws.
      written: what has been.
      finish_reason: None while it goes on.
    """

    slot: int
    number: int
    prompt: int
    prefill: list[int]
    start: int
    position: int
    budget: int
    seed: int = 0
    written: list[int] = dataclasses.field(default_factory=list)
    finish_reason: FinishReason | None = None

    def length(self, steps: int) -> int:
        """Positions the text needs for `steps` more tokens."""
        return self.position + min(len(self.written) + steps, self.budget)


class Board:
    """The rows on the device, and which text sits in each.

    Args:
      student: the architecture.
      weights: of S students.
      texts: what to write, in the order in which they are seated.
      batch_rows: most texts a slot writes at a time.
      sampling: how tokens are chosen; None for the likeliest.
      end: the token that ends a text.
      stop: finds where a text is to end besides the end token.
      mesh: the devices, if the weights are on several.
    """

    def __init__(
        self,
        student: Student,
        weights: Weights,
        slots: int,
        texts: list[Text],
        batch_rows: int,
        sampling: Sampling | None,
        end: int,
        stop: StopStrings,
        mesh: Mesh | None,
    ) -> None:
        self._student, self._weights, self._sampling, self._stop, self._mesh = student, weights, sampling, stop, mesh
        self._end = end
        self._queues = [collections.deque(text for text in texts if text.slot == slot) for slot in range(slots)]
        share = row_shares(mesh)
        rows = min(batch_rows, _power_of_two(max(map(len, self._queues), default=0)))
        rows = -(-rows // share) * share
        self._row_counts = _row_counts(rows, share)
        self._seats: list[list[Text | None]] = [[None] * rows for _ in range(slots)]
        prefix = _common_prefix(texts) if student.kind == "decoder" else []
        self._start = len(prefix)
        for text in texts:
            text.prefill = text.prefill[self._start :]
        self._prefix = read_prefix(student, mesh, weights, np.asarray(prefix, np.int32)) if prefix else ()
        self._cache: Cache | None = None
        self._shape = (0, 0)
        self._longest_prefill = _prompt_width(max((len(text.prefill) for text in texts), default=0))

    @property
    def busy(self) -> bool:
        return any(self._queues) or any(any(seats) for seats in self._seats)

    def advance(self) -> list[Text]:
        """Seats waiting texts, decodes one chunk, and returns the texts that ended."""
        newcomers = self._seat_newcomers()
        self._cache = self._fit_cache()
        if any(newcomers):
            self._cache = self._prefill(self._cache, newcomers)
        live = len(self._live())
        # Come back early when a worthwhile share of the rows can be refilled, or most of them dropped.
        rows = len(self._seats[0])
        if any(self._queues):
            leave_at = live - max(1, live // 8)
        else:
            leave_at = min(live - 1, max((count for count in self._row_counts if count < rows), default=0))
        self._cache, written_SxBxN = decode_chunk(
            self._student,
            self._mesh,
            self._weights,
            self._cache,
            self._rows(),
            np.int32(leave_at),
            np.int32(self._end),
            self._sampling,
            STEPS,
        )
        return self._collect(np.asarray(written_SxBxN))

    def _live(self) -> list[Text]:
        return [text for seats in self._seats for text in seats if text is not None]

    def _seat_newcomers(self) -> list[list[Text]]:
        """Fills free rows from the queues; returns each slot's new texts."""
        newcomers: list[list[Text]] = [[] for _ in self._seats]
        for slot, (seats, queue) in enumerate(zip(self._seats, self._queues, strict=True)):
            for row, text in enumerate(seats):
                if text is None and queue:
                    seats[row] = queue.popleft()
                    newcomers[slot].append(seats[row])  # type: ignore[arg-type]
        return newcomers

    def _fit_cache(self) -> Cache:
        """Gives the cache the columns the next chunk needs, and drops idle rows once no text waits."""
        columns = _columns(max(text.length(STEPS) for text in self._live()) - self._start)
        rows = len(self._seats[0])
        if not any(self._queues):
            needed = max(sum(map(bool, seats)) for seats in self._seats)
            rows = min(count for count in self._row_counts if count >= needed)
        order_SxB = [_live_first(seats)[:rows] if rows < len(seats) else list(range(rows)) for seats in self._seats]
        self._seats = [[seats[row] for row in order] for seats, order in zip(self._seats, order_SxB, strict=True)]
        before, self._shape = self._shape, (rows, columns)
        if self._cache is None:
            prompt_columns = self._longest_prefill if self._student.kind == "encoder_decoder" else 0
            cache = new_cache(self._student, self._mesh, len(self._seats), rows, columns, prompt_columns)
            return cache._replace(prefix=self._prefix) if self._prefix else cache
        if before == self._shape:
            return self._cache
        return rearrange(self._mesh, self._cache, np.asarray(order_SxB, np.int32), columns)

    def _prefill(self, cache: Cache, newcomers: list[list[Text]]) -> Cache:
        """Reads the newcomers' prompts into the cache, those of alike lengths together; of samples of one prompt the
        first reads it, unless it is in a row already, and the others copy."""
        fresh: list[list[Text]] = [[] for _ in newcomers]
        copies: list[list[tuple[Text, Text]]] = [[] for _ in newcomers]
        for slot, texts in enumerate(newcomers):
            read = {text.prompt: text for text in self._seats[slot] if text is not None and text not in texts}
            for text in texts:
                if text.prefill and (first := read.setdefault(text.prompt, text)) is text:
                    fresh[slot].append(text)
                elif text.prefill:
                    copies[slot].append((first, text))
        for groups, size in _blocks(fresh):
            cache = self._prefill_group(cache, groups, size)
        for pairs, size in _blocks(copies):
            cache = self._copy_group(cache, pairs, size)
        return cache

    def _copy_group(self, cache: Cache, groups: list[list[tuple[Text, Text]]], size: int) -> Cache:
        width = self._width([text for pairs in groups for text, _ in pairs])
        row_2xSxb = np.full((2, len(groups), size), self._shape[0], np.int32)
        for slot, pairs in enumerate(groups):
            for place, pair in enumerate(pairs):
                row_2xSxb[:, slot, place] = [self._seats[slot].index(text) for text in pair]
        return copy_rows(self._mesh, cache, row_2xSxb[0], row_2xSxb[1], width)

    def _width(self, texts: list[Text]) -> int:
        """Columns of a block of prompts."""
        width = _prompt_width(max(len(text.prefill) for text in texts))
        # A decoder's prompt lies in the text's own columns.
        return min(width, self._shape[1]) if self._student.kind == "decoder" else width

    def _prefill_group(self, cache: Cache, groups: list[list[Text]], size: int) -> Cache:
        width, slots = self._width([text for texts in groups for text in texts]), len(groups)
        tokens_SxbxT = np.zeros((slots, size, width), np.int32)
        row_Sxb = np.full((slots, size), self._shape[0], np.int32)
        length_Sxb = np.zeros((slots, size), np.int32)
        for slot, texts in enumerate(groups):
            for place, text in enumerate(texts):
                tokens_SxbxT[slot, place, : len(text.prefill)] = text.prefill
                row_Sxb[slot, place] = self._seats[slot].index(text)
                length_Sxb[slot, place] = len(text.prefill)
        return prefill(self._student, self._mesh, self._weights, cache, row_Sxb, tokens_SxbxT, length_Sxb)

    def _rows(self) -> Rows:
        kinds = (np.int32, np.int32, np.int32, np.uint32)
        shape = (len(self._seats), len(self._seats[0]))
        rows = Rows(*(np.zeros(shape, kind) for kind in kinds))  # type: ignore[arg-type]
        rows.position[:] = self._start
        for slot, seats in enumerate(self._seats):
            for row, text in enumerate(seats):
                if text is not None:
                    rows.token[slot, row] = text.written[-1] if text.written else text.start
                    rows.position[slot, row] = text.position + len(text.written)
                    rows.budget[slot, row] = text.budget - len(text.written)
                    rows.seed[slot, row] = text.seed
        return rows

    def _collect(self, written_SxBxN: np.ndarray) -> list[Text]:
        """Hands each row's new tokens to its text; returns the texts that ended, their seats free again."""
        ended = []
        for seats, written_BxN in zip(self._seats, written_SxBxN, strict=True):
            for row, text in enumerate(seats):
                if text is None:
                    continue
                tokens = written_BxN[row]
                text.written.extend(tokens[tokens != NOTHING].tolist())
                if text.written and text.written[-1] == self._end:
                    text.written.pop()
                    text.finish_reason = "stop"
                elif len(text.written) == text.budget:
                    text.finish_reason = "length"
                if (kept := self._stop.tokens_before(text.written)) is not None:
                    del text.written[kept:]
                    text.finish_reason = "stop"
                if text.finish_reason is not None:
                    ended.append(text)
                    seats[row] = None
        return ended


# Compiled sizes. Each shape is a program: few are compiled, at the price of some idle rows and columns.
_PREFILL_ROWS = (32, 4, 1)
_PREFIX_STEP = 16
_One = TypeVar("_One")


def _blocks(by_slot: list[list[_One]]) -> Iterator[tuple[list[list[_One]], int]]:
    """Cuts what each slot has into blocks of one of the sizes of `_PREFILL_ROWS`."""
    while most := max(map(len, by_slot)):
        size = next(rows for rows in _PREFILL_ROWS if most > rows // 2)
        yield [some[:size] for some in by_slot], size
        by_slot = [some[size:] for some in by_slot]


def _row_counts(rows: int, share: int) -> list[int]:
    """How many rows a slot may have, falling: few counts, because each is a program for every count of columns.

    Args:
      rows: the most.
      share: devices the rows are spread over; it divides every count.
    """
    return [rows // divisor for divisor in (1, 2, 4, 8, 32) if rows % (divisor * share) == 0]


def _live_first(seats: list[Text | None]) -> list[int]:
    return sorted(range(len(seats)), key=lambda row: seats[row] is None)


def _common_prefix(texts: list[Text]) -> list[int]:
    """The tokens with which all prompts begin, a multiple of `_PREFIX_STEP` of them; none of a single prompt."""
    if len(texts) < 2:
        return []
    first, last = (choose(text.prefill for text in texts) for choose in (min, max))  # by the tokens' order
    same = next((at for at, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first))
    return first[: same // _PREFIX_STEP * _PREFIX_STEP]


def _power_of_two(count: int) -> int:
    return 1 << max(count - 1, 0).bit_length()


def _columns(length: int) -> int:
    """Columns of a cache for texts of up to `length` tokens: 64, 128, 256, ..."""
    return max(_power_of_two(length), 64)


def _prompt_width(length: int) -> int:
    """Width of a block of prompts: 16, 24, 32, 48, 64, ...; prefill's arithmetic grows with it."""
    power = max(_power_of_two(length), 16)
    return power * 3 // 4 if power > 16 and length <= power * 3 // 4 else power
