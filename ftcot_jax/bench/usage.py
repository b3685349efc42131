"""What a piece of work takes of the machine: wall clock, processor time, and memory at its peak."""

from __future__ import annotations

import dataclasses
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

_STATUS = Path("/proc/self/status")
_FORGET = Path("/proc/self/clear_refs")


@dataclasses.dataclass(frozen=True)
class Usage:
    """Of one piece of work.

    Attributes:
      seconds: by the wall clock.
      cpu_seconds: of all threads of this process; other programs on the machine hardly change it.
      peak_bytes: of this process's memory while it worked, what it held before included.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int


def measure(work: Callable[[], object]) -> Usage:
    """Does the work once."""
    forget_peak()
    began, cpu = time.perf_counter(), time.process_time()
    work()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    return Usage(seconds, cpu, peak_bytes())


def forget_peak() -> None:
    """Lets the peak begin anew, where the system can (Linux); elsewhere it is that since the process began."""
    try:
        _FORGET.write_text("5")
    except OSError:
        return


def peak_bytes() -> int:
    """Of this program: what the kernel calls a process's maximum counts the parent it was forked from too."""
    try:
        lines = _STATUS.read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
    except (OSError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def device_peak_bytes() -> int | None:
    """Of the first device since the process began; None where it has no memory of its own."""
    import jax  # the teacher's clients are measured without it

    stats = jax.local_devices()[0].memory_stats()
    return int(stats["peak_bytes_in_use"]) if stats and "peak_bytes_in_use" in stats else None
