"""One of several processes that `test_cluster` starts: trains the pool of `test_pool`, and may be made to fail.

Arguments: the folder, and JSON of ``mesh``, ``every`` (steps between checkpoints) and ``fault``, a list of process
number, steps after which, and what happens: "raise", "refuse", "hang" or the name of a signal it sends itself.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ftcot_jax.errors import FtcotError
from ftcot_jax.stage_command import explain
from ftcot_jax.training import hub
from ftcot_jax.training.cluster import join
from ftcot_jax.training.processes import Processes
from ftcot_jax.training.settings import MeshSettings
from ftcot_jax.training.trial import Look, Looked
from tests.training.test_pool import Recorder, make_trials, run


class Faulty(Recorder):
    """Keeps trained weights on disk, and fails as told."""

    def __init__(self, folder: Path, processes: Processes, fault: list[Any] | None) -> None:
        super().__init__()
        self.folder, self.processes, self.fault, self.steps = folder, processes, fault, 0

    def look(self, due: Sequence[Look], params_S: Any) -> Looked:
        looked = super().look(due, params_S)
        return looked if self.processes.lead else Looked()  # process 0 decides

    def keep(self, trial: Any, step: int, params: Any) -> None:
        assert self.processes.lead
        super().keep(trial, step, params)

    def finished(self, trial: Any, step: int, params: Any, summary: dict[str, Any]) -> None:
        assert self.processes.lead
        super().finished(trial, step, params, summary)
        np.savez(self.folder / f"{trial.key}.npz", **self.done[trial.key])

    def progress(self, trial: Any, step: int, row: dict[str, Any]) -> None:
        self.steps += 1
        if self.fault is None or [self.processes.number, self.steps] != self.fault[:2]:
            return
        if self.fault[2] == "raise":
            raise RuntimeError("a bug of its own")
        if self.fault[2] == "refuse":
            raise FtcotError("records-1: row 3 is damaged")
        if self.fault[2] == "hang":
            time.sleep(1000)
        os.kill(os.getpid(), signal.Signals[self.fault[2]])


def main() -> None:
    folder, told = Path(sys.argv[1]), json.loads(sys.argv[2])
    hub.SECONDS_BETWEEN_LINES = 3.0
    processes = join()
    try:
        trials = [trial for trial in make_trials() if not (folder / f"{trial.key}.npz").exists()]
        trials = [trial for trial in trials if trial.key in processes.decide("left", [one.key for one in trials])]
        recorder = Faulty(folder, processes, told.get("fault"))
        run(folder, recorder, trials, 2, told.get("every"), MeshSettings(**told.get("mesh", {})), processes)
        processes.leave()
    except Exception as error:
        processes.fail(*explain(error), unexpected=not isinstance(error, FtcotError))
        raise


if __name__ == "__main__":
    main()
