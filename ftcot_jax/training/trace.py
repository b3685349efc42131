"""A profiler trace of a few steps, for TensorBoard's or XProf's trace viewer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jax


class Trace:
    """Traces the steps [first, end) that this process takes, counted from 0.

    Args:
      steps: first and end; None for no trace.
      folder: where the trace goes.
      say: told where it is.
    """

    def __init__(self, steps: tuple[int, int] | None, folder: Path, say: Callable[[str], None]) -> None:
        self._steps, self._folder, self._say = steps, folder, say
        self._running = False

    def turns_at(self, step: int) -> bool:
        """Whether the trace begins or ends before this step, so that nothing should be on its way."""
        return self._steps is not None and step in self._steps

    def turn(self, step: int) -> None:
        """Begins or ends the trace before this step."""
        assert self._steps is not None
        if step == self._steps[0] and not self._running:
            jax.profiler.start_trace(str(self._folder))
            self._running = True
        else:
            self.close()

    def close(self) -> None:
        """Ends the trace if it runs."""
        if self._running and self._steps is not None:
            self._running = False
            jax.profiler.stop_trace()
            first, end = self._steps
            self._say(f"profile of steps {first} to {end}: {self._folder} (tensorboard --logdir, with xprof installed)")
