"""Turning SIGTERM and Ctrl-C into a flag that the loop reads between two steps."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class StopFlag:
    """`reason` is None until the process is asked to stop."""

    reason: str | None = None


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopFlag]:
    """Catches the first SIGTERM or SIGINT; a second one ends the process at once.

    Outside the main thread, where Python allows no handlers, the flag stays unset.
    """
    flag = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def note(number: int, frame: FrameType | None) -> None:
        flag.reason = signal.Signals(number).name
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, note)
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
