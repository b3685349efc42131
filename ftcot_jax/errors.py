"""The errors a user sees: one clear line each, and the exit code that goes with it.

Every message names the file, key or row, says what was wrong, and says what to do. The command line
prints the message alone; the stack trace appears only with ``--debug``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FtcotError(Exception):
    """A run that failed for a reason the user can act on."""

    exit_code = 1


class UsageError(FtcotError):
    """The command line, the recipe or an input file is wrong; nothing was started."""

    exit_code = 2


class Preempted(FtcotError):
    """The machine is being taken away; state is saved and the same command goes on from here."""

    exit_code = 42


def nearest(word: str, known: Iterable[str]) -> str:
    """Returns `` (did you mean 'x'?)`` for the known word closest to `word`, or an empty string."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean '{close[0]}'?)" if close else ""
