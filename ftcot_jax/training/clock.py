"""Where the wall time of a run goes: every moment belongs to exactly one part."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Literal

Part = Literal["step", "input", "compile", "evaluate", "checkpoint", "other"]
PARTS: tuple[Part, ...] = ("step", "input", "compile", "evaluate", "checkpoint", "other")


class Clock:
    """Seconds spent in each part since it was made; they sum to the wall time.

    `step` is the device at work or the host waiting for it, `input` the device waiting for its next batch,
    `compile` the first call of each batch shape, `evaluate` what listeners do with weights, `checkpoint` what
    saving takes of the loop, and `other` the rest: loading weights, filling slots.
    """

    def __init__(self) -> None:
        self._spent: dict[Part, float] = dict.fromkeys(PARTS, 0.0)
        self._part: Part = "other"
        self._since = time.monotonic()

    @contextlib.contextmanager
    def within(self, part: Part) -> Iterator[None]:
        """Counts the time inside to `part`, and not to the part around it."""
        around = self._turn(part)
        try:
            yield
        finally:
            self._turn(around)

    def move(self, seconds: float, origin: Part, to: Part) -> None:
        """Counts to another part what turns out, later, to have belonged there."""
        self._spent[origin] -= seconds
        self._spent[to] += seconds

    def read(self) -> dict[Part, float]:
        """Seconds in each part up to now."""
        self._turn(self._part)
        return dict(self._spent)

    def _turn(self, part: Part) -> Part:
        now, before = time.monotonic(), self._part
        self._spent[before] += now - self._since
        self._part, self._since = part, now
        return before
