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
      new_bytes: how much that is above what it held before; None where the system does not tell.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    new_bytes: int | None


def measure(work: Callable[[], object]) -> Usage:
    """Does the work once."""
    held = _status_bytes("VmRSS") if forget_peak() else None
    began, cpu = time.perf_counter(), time.process_time()
    work()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    peak = peak_bytes()
    return Usage(seconds, cpu, peak, None if held is None else max(0, peak - held))


def forget_peak() -> bool:
    """Lets the peak begin anew, where the system can (Linux); elsewhere it is that since the process began."""
    try:
        _FORGET.write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def peak_bytes() -> int:
    """Of this program: what the kernel calls a process's maximum counts the parent it was forked from too."""
    peak = _status_bytes("VmHWM")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit if peak is None else peak


def _status_bytes(name: str) -> int | None:
    try:
        lines = _STATUS.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)


def device_peak_bytes() -> int | None:
    """Of the first device since the process began; None where it has no memory of its own."""
    import jax  # the teacher's clients are measured without it

    stats = jax.local_devices()[0].memory_stats()
    return int(stats["peak_bytes_in_use"]) if stats and "peak_bytes_in_use" in stats else None
