"""The command `ftcot`: begins with large pages for large arrays, then hands over to the command line.

XLA's CPU backend takes the memory of a step from malloc and gives it back after the step, gigabytes for a student like
GPT-2. The kernel hands it over in pages of 4 KiB, each cleared at its first touch: half a million faults a step.
GNU's malloc asks for pages of 2 MiB instead if the environment says so when a process begins, so this one begins again
(benchmarks/LOG.md has what it gains).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from ftcot_jax.accelerator import leave_out_absent_tpu

_VARIABLE, _TUNABLE = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"
_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def main() -> None:
    """Entry point of the installed command."""
    _begin_with_large_pages()
    leave_out_absent_tpu(os.environ)  # jax reads it when it is imported
    from ftcot_jax.cli import main as command_line  # after the new beginning: its imports would be paid twice

    command_line()


def _begin_with_large_pages() -> None:
    given = os.environ.get(_VARIABLE, "")
    if _TUNABLE in given or not _only_if_asked():
        return
    os.environ[_VARIABLE] = ":".join(filter(None, [given, f"{_TUNABLE}=1"]))
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _only_if_asked() -> bool:
    """Whether the kernel gives large pages to those who ask, and to no others."""
    try:
        return "[madvise]" in _PAGES.read_text()
    except OSError:
        return False
