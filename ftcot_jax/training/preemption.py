"""Turning SIGTERM, Ctrl-C and the cloud's notice into a flag that the loop reads between two steps."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from ftcot_jax.training.cloud_notice import cloud_notice


class StopFlag:
    """`reason` is None until the process is asked to stop."""

    def __init__(self) -> None:
        self._notice = cloud_notice()
        self._signal: str | None = None

    def caught(self, number: int) -> None:
        self._signal = signal.Signals(number).name

    @property
    def reason(self) -> str | None:
        return self._signal or (None if self._notice is None else self._notice.reason)


@contextlib.contextmanager
def stop_when_asked() -> Iterator[StopFlag]:
    """Catches the first SIGTERM or SIGINT; a second one ends the process at once.

    Outside the main thread, where Python allows no handlers, signals leave the flag unset.
    """
    flag = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def note(number: int, frame: FrameType | None) -> None:
        flag.caught(number)
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, note)
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
