"""What the loop tells of its trials: a row of metrics a step, and at the end what each trial cost."""

from __future__ import annotations

import dataclasses
import math
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from ftcot_jax.training.board import Board
from ftcot_jax.training.clock import Clock, Part
from ftcot_jax.training.metric_log import MetricLog, NoLog, Sink
from ftcot_jax.training.settings import WandbSettings
from ftcot_jax.training.step import Metrics
from ftcot_jax.training.trial import Listener, Trial
from ftcot_jax.training.wandb_run import WandbRun


@dataclasses.dataclass(eq=False)
class Seat:
    """A slot's trial on the host.

    Attributes:
      trial: who sits there.
      step: the next one it takes.
      log: where its rows go.
      spent: what the clock would have read at its beginning, had the trial been in its slot ever since.
      examples: records trained on so far.
      flops: operations that took, for the model.
    """

    trial: Trial
    step: int
    log: MetricLog | NoLog
    spent: dict[Part, float]
    examples: int
    flops: float

    def costs(self, clock: Clock) -> dict[Part, float]:
        """Wall seconds of each part while the trial was in a slot, earlier runs of it included."""
        return {part: now - self.spent[part] for part, now in clock.read().items()}


@dataclasses.dataclass(frozen=True)
class Taken:
    """One trial's part in a step: slot and seat, which step of its own it was, how many records and operations."""

    slot: int
    seat: Seat
    step: int
    examples: int
    flops: float


@dataclasses.dataclass(frozen=True)
class Launched:
    """A step on its way.

    Attributes:
      parts: of the trials that take part.
      metrics: to come.
      votes: what the processes wished when it was launched, to come.
      began: when its planning began.
    """

    parts: list[Taken]
    metrics: Metrics
    votes: Any
    began: float


class Elsewhere:
    """Where logs are kept besides this machine's disk. This class is of a run that needs no such place."""

    def going_on(self, metrics: Path, board: Path | None) -> None:
        """A trial's metrics file and TensorBoard folder are about to be written: the former as it was last kept."""

    def keep(self) -> None:
        """Keeps all as it is now; called before a checkpoint is saved, which goes on from that."""


HERE = Elsewhere()


@dataclasses.dataclass(frozen=True)
class Logs:
    """Where a pool's metrics go.

    Attributes:
      folder: the pool's; JSON lines lie under it.
      board: folder for TensorBoard events, or None for none.
      wandb: where Weights & Biases keeps them, or None if it is not asked for.
      say: receives warnings.
      elsewhere: where else they are kept.
    """

    folder: Path
    board: Path | None
    wandb: WandbSettings | None
    say: Callable[[str], None]
    elsewhere: Elsewhere = HERE

    def open(self, trial: Trial, step: int) -> MetricLog:
        """The log of a trial whose next step is `step`."""
        sinks: list[Sink] = []
        board = None if self.board is None else board_folder(self.board, trial.name, trial.key)
        self.elsewhere.going_on(metrics_file(self.folder, trial), board)
        if board is not None:
            sinks.append(Board(board, step))
        if self.wandb is not None:
            sinks.append(WandbRun(self.wandb, trial.key, trial.name, self.folder / "wandb", self.say))
        return MetricLog(metrics_file(self.folder, trial), step, self.say, sinks)


class Reporter:
    """Logs the steps of a pool and keeps account of its trials.

    Args:
      logs: where they go.
      listener: told of every step.
      clock: the pool's.
      peak: operations a second that the devices can do, or None if nobody knows.
      writes: whether this process writes the logs; of several one does.
    """

    def __init__(self, logs: Logs, listener: Listener, clock: Clock, peak: float | None, writes: bool = True) -> None:
        self._peak = peak
        self._logs, self._listener, self._clock, self._writes = logs, listener, clock, writes
        self._reported_at = -math.inf

    def seat(self, trial: Trial, step: int, note: dict[str, Any] | None) -> Seat:
        """A seat for a trial whose next step is `step`; `note` is that of its seat in the checkpoint, if any."""
        log = self._logs.open(trial, step) if self._writes else NoLog()
        before = {} if note is None else note["spent"]
        spent = {part: now - before.get(part, 0.0) for part, now in self._clock.read().items()}
        examples, flops = (0, 0.0) if note is None else (note["examples"], note["flops"])
        return Seat(trial, step, log, spent, examples, flops)

    def note(self, seat: Seat) -> dict[str, Any]:
        """What a checkpoint keeps of a seat, as JSON values."""
        counts = {"examples": seat.examples, "flops": seat.flops}
        return {"key": seat.trial.key, "spent": seat.costs(self._clock), **counts}

    def report(self, launched: Launched, seats: Sequence[Seat | None]) -> list[int]:
        """Logs a step's metrics, waiting for them if need be.

        Returns:
          The slots whose trial has diverged; the listener has been told.
        """
        rows = jax.device_get(launched.metrics)
        ended = time.monotonic()
        seconds = ended - max(launched.began, self._reported_at)
        self._reported_at = ended
        diverged = []
        for part in launched.parts:
            seat = part.seat
            if seats[part.slot] is not seat:
                continue  # failed at the step before this one
            row = {name: float(value[part.slot]) for name, value in rows._asdict().items()}
            row["examples_per_second"] = part.examples / seconds
            row["tokens_per_second"] = row["tokens"] / seconds
            if self._peak is not None:
                row["mfu"] = part.flops / seconds / self._peak
            seat.examples += part.examples
            seat.flops += part.flops
            seat.log.write({"step": part.step, **row})
            self._listener.progress(seat.trial, part.step + 1, row)
            if not math.isfinite(row["loss"]):
                self._listener.failed(seat.trial, f"loss became {row['loss']} at step {part.step}")
                diverged.append(part.slot)
        return diverged

    def summary(self, seat: Seat) -> dict[str, Any]:
        """What a trial has cost: wall seconds in all and by part, and examples a second while it trained."""
        spent = seat.costs(self._clock)
        training = spent["step"] + spent["input"]
        return {
            "seconds": sum(spent.values()),
            "spent": spent,
            "examples": seat.examples,
            "examples_per_second": seat.examples / training if training else None,
            "mfu": seat.flops / training / self._peak if training and self._peak is not None else None,
            "input_wait_share": spent["input"] / training if training else 0.0,
        }


def metrics_file(folder: Path, trial: Trial) -> Path:
    """Where a pool under `folder` logs the trial's metrics."""
    return folder / "metrics" / f"{trial.key}.jsonl"


def board_folder(board: Path, name: str, key: str) -> Path:
    """Where a trial's TensorBoard events are."""
    return board / f"{re.sub(r'[^A-Za-z0-9=._-]+', '_', name)}-{key}"
