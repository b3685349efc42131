"""The most memory that was in use: of the devices where they tell, else of this process."""

from __future__ import annotations

import contextlib
import resource
import sys
from pathlib import Path

import jax


def forget_peak() -> None:
    """Lets the process's peak begin anew, where the kernel can (Linux); that of devices cannot."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_bytes() -> tuple[int, str]:
    """Bytes, and whose they are, in words."""
    stats = [device.memory_stats() or {} for device in jax.local_devices()]
    if all("peak_bytes_in_use" in one for one in stats):
        return max(int(one["peak_bytes_in_use"]) for one in stats), "of a device"
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, "of the process"
