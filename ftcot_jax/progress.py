"""Showing long work: a bar with rate and time left on a terminal, a plain line now and then in a log."""

from __future__ import annotations

import contextlib
import datetime
import sys
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

SECONDS_BETWEEN_LINES = 20

Update = Callable[[int, int, str], None]


def say(line: str) -> None:
    """Prints one line of what is going on, apart from results, which go to standard output."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(line, markup=False)


@contextlib.contextmanager
def show_progress(title: str) -> Iterator[Update]:
    """Yields ``update(done, total, note)`` to be called as often as one likes."""
    with _bar(title) if sys.stderr.isatty() else _lines(title) as update:
        yield update


@contextlib.contextmanager
def _bar(title: str) -> Iterator[Update]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=None, rate="", note="")
        rate = _Rate()

        def update(done: int, total: int, note: str = "") -> None:
            progress.update(task, completed=done, total=total, rate=rate(done), note=note)

        yield update


@contextlib.contextmanager
def _lines(title: str) -> Iterator[Update]:
    shown = time.monotonic()
    rate = _Rate()

    def update(done: int, total: int, note: str = "") -> None:
        nonlocal shown
        speed = rate(done)
        now = time.monotonic()
        if now - shown >= SECONDS_BETWEEN_LINES:
            shown = now
            say(f"{title}: {done}/{total} {speed} {rate.left(done, total)} {note}".rstrip())

    yield update


class _Rate:
    """Units a second since the first call, whose own units were done before."""

    def __init__(self) -> None:
        self._began: tuple[float, int] | None = None

    def __call__(self, done: int) -> str:
        now = time.monotonic()
        if self._began is None:
            self._began = (now, done)
            return ""
        seconds = now - self._began[0]
        return f"{(done - self._began[1]) / seconds:.1f}/s" if seconds > 0 else ""

    def left(self, done: int, total: int) -> str:
        """Time to the end at the rate so far, as hours, minutes and seconds."""
        if self._began is None or done <= self._began[1]:
            return ""
        seconds = (time.monotonic() - self._began[0]) / (done - self._began[1]) * (total - done)
        return f"{datetime.timedelta(seconds=round(seconds))} left"
