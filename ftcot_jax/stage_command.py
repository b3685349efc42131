"""Running one stage for the command line: the other processes joined, the recipe read, errors told to all."""

from __future__ import annotations

import os
import traceback
from typing import Any

from ftcot_jax.errors import FtcotError


def run_stage(name: str, recipe: str, overrides: list[str] | None, out: str | None, **options: Any) -> None:
    """Reads the recipe and runs one stage; imports late, so that help and bad usage answer at once."""
    from ftcot_jax.training.cluster import join

    processes = join()
    try:
        from ftcot_jax.config import load_recipe
        from ftcot_jax.stages.run import perform

        changes = [*(overrides or []), *([] if out is None else [f"out={out}"])]
        loaded, trials = load_recipe(recipe, changes)
        text = perform(name, loaded, trials, processes, **options)
    except (Exception, KeyboardInterrupt) as error:
        if os.environ.get("FTCOT_DEBUG") and processes.count > 1:
            traceback.print_exc()
        expected = isinstance(error, (FtcotError, OSError, KeyboardInterrupt))
        processes.fail(*explain(error), unexpected=not expected)
        raise
    if text:
        print(text)


def explain(error: BaseException) -> tuple[str, int]:
    """The line a user sees, and the exit code."""
    if isinstance(error, FtcotError):
        return str(error), error.exit_code
    if isinstance(error, OSError):
        return f"{error.filename or 'input/output'}: {error.strerror or error}", 1
    if isinstance(error, KeyboardInterrupt):
        return "stopped; run the same command to go on", 130
    # The outermost edge: whatever it is, the user gets a line and a way to learn more.
    first = (str(error).strip().splitlines() or [""])[0][:300]
    return f"unexpected {type(error).__name__}: {first} (ftcot --debug shows where)", 1
