"""The loop: a queue of trials through the slots of one compiled program.

Trials of one architecture and optimizer share the program. A slot whose trial ends is handed over and given
the next trial while the others go on. What a trial computes depends only on the trial and its step, so an
interrupted pool continues exactly, also with another number of slots.
"""

from __future__ import annotations

import collections
import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import jax
from etils import epath
from jax.sharding import Mesh

from ftcot_jax.errors import Preempted
from ftcot_jax.records.packing import BatchShape
from ftcot_jax.records.plan import Planner
from ftcot_jax.records.table import RecordTable
from ftcot_jax.training.agreement import Ballot, Wish, on_all, spread, to_leader
from ftcot_jax.training.checkpoints import Checkpoints
from ftcot_jax.training.clock import Clock
from ftcot_jax.training.flops import Meter
from ftcot_jax.training.input import InputChoice, make_input, where_to_keep
from ftcot_jax.training.preemption import StopFlag, stop_when_asked
from ftcot_jax.training.processes import ALONE, Processes
from ftcot_jax.training.reporting import HERE, Elsewhere, Launched, Logs, Reporter, Seat, Taken
from ftcot_jax.training.settings import CheckpointSettings, WandbSettings
from ftcot_jax.training.slots import empty_slots, refill, take, vacate
from ftcot_jax.training.step import (
    Executor,
    Params,
    SharedBase,
    SlotState,
    TrainableStudent,
    make_train_step,
    new_state,
)
from ftcot_jax.training.trace import Trace
from ftcot_jax.training.trial import OPEN, Gate, Listener, Look, Looked, Trial


@dataclasses.dataclass(frozen=True)
class PoolOptions:
    """How a pool runs; nothing here changes any trial's result but by rounding, except that of dropout where
    `share_questions`.

    Attributes:
      folder: where it logs, on this machine.
      saves: where its checkpoints go, local or remote; below `folder` by default.
      elsewhere: where else the logs are kept.
    """

    slots: int
    executor: Executor
    checkpoints: CheckpointSettings
    folder: Path
    board: Path | None
    saves: epath.Path | None = None
    elsewhere: Elsewhere = HERE
    wandb: WandbSettings | None = None
    profile_steps: tuple[int, int] | None = None
    microbatches: int = 1
    share_questions: bool = False
    input: InputChoice = "auto"


class Pool:
    """Trains trials in slots; `run` returns when every trial has finished or failed.

    Args:
      student: the architecture all trials share.
      architecture: identifies it in checkpoints.
      table: the records of all trials.
      trials: what to train, in order.
      mesh: devices.
      options: slots, executor, checkpoints.
      listener: looks at trials that are due, and is told when one finished or failed.
      say: receives warnings, one line each.
      frozen: params that no trial trains and all share, as the mesh holds them; None where all are trained.
      processes: those that share the mesh; each runs the same pool of the same trials.
      meter: tells the utilisation of the devices; None for not telling.
      queue: keys of the trials to train, in this order; None for all. The shapes are chosen for the others too, so that
        what is left of a killed run, or another worker's share, is computed exactly as it would have been.
      gate: says which trials of those in the queue are this pool's, where others draw from it too.

    Raises:
      UsageError: one of several processes has no device in the mesh.
    """

    def __init__(
        self,
        student: TrainableStudent,
        architecture: str,
        table: RecordTable,
        trials: Sequence[Trial],
        mesh: Mesh,
        options: PoolOptions,
        listener: Listener,
        say: Callable[[str], None],
        frozen: Params | None = None,
        processes: Processes = ALONE,
        meter: Meter | None = None,
        queue: Sequence[str] | None = None,
        gate: Gate = OPEN,
    ) -> None:
        self._meter, self._gate = meter, gate
        self._frozen, self._processes = frozen, processes
        self._ballot = Ballot(mesh, processes)
        by_key = {trial.key: trial for trial in trials}
        self._queue = collections.deque(by_key[key] for key in (by_key if queue is None else queue))
        self._mesh, self._options, self._listener = mesh, options, listener
        self._rules = student.sharding_rules
        share = mesh.shape["data"] * mesh.shape["fsdp"]
        width = jax.eval_shape(student.head, student.shapes).shape[1]
        data = [trial.data for trial in trials]
        self._planner = Planner.for_trials(
            table,
            data,
            width=width,
            slots=options.slots,
            kind=student.kind,
            row_multiple=share,
            microbatches=options.microbatches,
            share_questions=options.share_questions,
        )
        self._step = make_train_step(student, mesh, options.executor)
        trained = student.shapes if frozen is None else cast(SharedBase, student).split(student.shapes)[1]
        self._like = jax.eval_shape(new_state, trained, trials[0].hyper)
        self._state = empty_slots(self._like, options.slots, mesh, self._rules)
        where = processes.decide("input", where_to_keep(options.input, table, mesh))
        self._input = make_input(where, table, self._planner, data, options.slots, mesh)
        self._seats: list[Seat | None] = [None] * options.slots
        places = options.saves or epath.Path(options.folder / "checkpoints")
        self._checkpoints = Checkpoints(places, architecture, say, options.checkpoints.keep, processes)
        self.clock = Clock()
        logs = Logs(options.folder, options.board, options.wandb, say, options.elsewhere)
        self._trace = Trace(options.profile_steps if processes.lead else None, options.folder / "profile", say)
        self._taken = 0
        self._reporter = Reporter(logs, listener, self.clock, None if meter is None else meter.peak, processes.lead)
        self._compiled: set[BatchShape] = set()
        self._tick = 0

    def run(self) -> None:
        """Trains until no trial is left.

        Raises:
          Preempted: SIGTERM, Ctrl-C or the cloud's notice came; the state is saved.
        """
        with stop_when_asked() as stop:
            try:
                self._resume()
                saved = time.monotonic()
                pending: Launched | None = None
                while True:
                    if self._attention_is_due():
                        self._flush(pending)
                        pending = None
                        with self.clock.within("evaluate"):
                            self._attend()
                    if not any(self._seats):
                        if stop.reason and self._processes.count == 1:
                            raise self._stopped(stop)  # there may be other pools to come
                        return
                    wish = self._wish(stop, time.monotonic() - saved)
                    decision = self._ballot.decision(wish)
                    if decision is not Wish.GO_ON:
                        self._flush(pending)
                        pending = None
                        self._drop_lost()
                        if not any(self._seats):
                            continue  # the last of them has just diverged, or been taken over
                        with self.clock.within("checkpoint"):
                            self._save()
                        saved = time.monotonic()
                        self._ballot.settle()
                    if decision is Wish.STOP:
                        raise self._stopped(stop)
                    if self._trace.turns_at(self._taken):
                        jax.block_until_ready(self._state)
                        self._trace.turn(self._taken)
                    with self.clock.within("step"):
                        launched = self._launch(pending, wish)
                    self._flush(pending)
                    pending = launched
            finally:
                self._input.close()
                self._trace.close()
                with self.clock.within("checkpoint"):
                    self._checkpoints.close()
                for seat in self._seats:
                    if seat is not None:
                        seat.log.close()

    def _wish(self, stop: StopFlag, seconds: float) -> Wish:
        """What this process wants, `seconds` after the last checkpoint; of several the leader's clock counts."""
        if stop.reason:
            return Wish.STOP
        due = self._processes.lead and (self._gate.lost() or self._checkpoint_is_due(seconds))
        return Wish.SAVE if due else Wish.GO_ON

    def _stopped(self, stop: StopFlag) -> Preempted:
        """How the run ends once all is saved, on all processes."""
        with self.clock.within("checkpoint"):
            self._checkpoints.close()
        reasons = self._processes.gather("stopping", stop.reason)
        number, reason = next((number, reason) for number, reason in enumerate(reasons) if reason)
        whom = f" on process {number}" if len(reasons) > 1 else ""
        return Preempted(f"stopped by {reason}{whom} and saved; run the same command to go on")

    def _launch(self, pending: Launched | None, wish: Wish) -> Launched:
        """Starts one step of every seat without waiting for it, nor for the one on its way."""
        began = time.monotonic()
        table, planned, shape, examples = self._input.next()
        planned = on_all(self._mesh, planned)
        if not isinstance(table.tokens, jax.Array):
            table = on_all(self._mesh, table)
        self._processes.steps_begun(self._tick + 1)  # before the step, which waits for one that stays behind
        parts = []
        for slot, seat in enumerate(self._seats):
            if seat is not None:
                parts.append(Taken(slot, seat, seat.step, examples[slot], self._flops(seat)))
                seat.step += 1
        loss: Any = None if pending is None else pending.metrics.loss
        if loss is None or loss.is_ready():  # public on concrete arrays, though not in their stub
            self.clock.move(time.monotonic() - began, "step", "input")  # the device had nothing to do meanwhile
        with self.clock.within("step" if shape in self._compiled else "compile"):
            self._state, metrics = self._step(self._state, table, planned, shape, self._frozen)
        self._compiled.add(shape)
        self._tick += 1
        self._taken += 1
        metrics, votes = self._ballot.cast(metrics, wish)
        return Launched(parts, metrics, votes, began)

    def _flops(self, seat: Seat) -> float:
        """Operations of the seat's next step, for the model."""
        if self._meter is None:
            return 0.0
        records = seat.trial.data.at(seat.step)
        return self._meter.step.total(self._planner.sizes.lengths[records], self._planner.sizes.labels[records])

    def _flush(self, launched: Launched | None) -> None:
        """Reports a step that is still on its way, if any, and frees the slots of trials that diverged."""
        if launched is not None:
            with self.clock.within("step"):
                diverged = self._reporter.report(launched, self._seats)
                self._ballot.count(launched.votes)
            for slot in diverged:
                self._leave(slot)

    def _attention_is_due(self) -> bool:
        """Whether a trial is to be looked at or has ended, or a free slot has a trial waiting."""
        return any(bool(self._queue) if seat is None else _is_due(seat) for seat in self._seats)

    def _attend(self) -> None:
        """Fills the free slots, has all trials that are due looked at together, and hands over those that end."""
        seen: set[Seat] = set()
        while True:
            for slot, seat in enumerate(self._seats):
                while seat is None and self._queue:
                    trial = self._queue.popleft()
                    if self._is_admitted(trial):
                        self._seat(slot, trial, None)
                        break
            due = {slot: seat for slot, seat in enumerate(self._seats) if seat and seat not in seen and _is_due(seat)}
            if not due:
                return
            seen |= set(due.values())
            looked = self._look(due)
            for slot, seat in due.items():
                if seat.step >= seat.trial.steps or slot in looked.stop:
                    self._finish(slot, seat)
                    self._leave(slot)
                elif slot in looked.keep:
                    params = self._params(slot)
                    if self._processes.lead:
                        self._listener.keep(seat.trial, seat.step, params)
                    self._processes.gather(f"{seat.trial.name} kept after step {seat.step}")

    def _look(self, due: dict[int, Seat]) -> Looked:
        """Has the listener look on every process, so that it may use all devices; process 0 decides what follows."""
        looks = [Look(slot, seat.trial, seat.step) for slot, seat in due.items()]
        looked = self._listener.look(looks, self._state.params)
        keep, stop = self._processes.decide(f"looked at {len(looks)} trials", [looked.keep, looked.stop])
        return Looked(keep, stop)

    def _finish(self, slot: int, seat: Seat) -> None:
        summary = self._reporter.summary(seat)
        efficiency = self._planner.efficiency(seat.trial.data)
        summary |= {"packing_efficiency": efficiency.filled, "shared_token_share": efficiency.shared}
        summary["slots"] = len(self._seats)
        params = self._params(slot)
        if self._processes.lead:
            self._listener.finished(seat.trial, seat.step, params, summary)
        self._processes.gather(f"{seat.trial.name} finished")

    def _seat(self, slot: int, trial: Trial, state: SlotState | None, note: dict[str, Any] | None = None) -> None:
        """Puts a trial into a slot: from its first step, or from a restored state and the note of its seat."""
        with self.clock.within("other"):
            if state is None:
                state = new_state(trial.initial(), trial.hyper)
                if self._processes.count > 1:
                    state = spread(self._mesh, self._rules, state)
            self._state = refill(self._state, slot, state)
            self._seats[slot] = seat = self._reporter.seat(trial, int(state.step), note)
            self._input.seat(slot, trial.data, seat.step, trial.steps)

    def _is_admitted(self, trial: Trial) -> bool:
        admitted: bool = self._processes.decide(
            f"admit {trial.name}", self._processes.lead and self._gate.admits(trial)
        )
        return admitted

    def _drop_lost(self) -> None:
        """Frees the slots of trials that another has taken over."""
        lost = self._processes.decide("lost", sorted(self._gate.lost()) if self._processes.lead else None)
        for slot, seat in enumerate(self._seats):
            if seat is not None and seat.trial.key in lost:
                self._leave(slot)
                self._gate.left(seat.trial)

    def _leave(self, slot: int) -> None:
        seat = self._seats[slot]
        assert seat is not None
        seat.log.close()
        self._seats[slot] = None
        self._input.leave(slot)
        self._state = vacate(self._state, slot)

    def _params(self, slot: int) -> Params:
        params = take(self._state.params, slot)
        return params if self._processes.count == 1 else to_leader(self._mesh, params, self._processes)

    def _checkpoint_is_due(self, seconds: float) -> bool:
        settings = self._options.checkpoints
        return seconds > 60 * settings.minutes or (
            settings.steps is not None and self._tick > 0 and self._tick % settings.steps == 0
        )

    def _save(self) -> None:
        self._options.elsewhere.keep()
        seats = [None if seat is None else self._reporter.note(seat) for seat in self._seats]
        self._checkpoints.save(self._tick, self._state, {"slots": seats})

    def _resume(self) -> None:
        """Seats the trials that a checkpoint caught in the middle, in as many slots as there are now."""
        found = self._checkpoints.restore(self._like, self._mesh, self._rules)
        if found is None:
            return
        self._tick, saved, note = found
        waiting = {trial.key: trial for trial in self._queue}
        free = iter(range(len(self._seats)))
        slot = next(free, None)
        for place, seat in enumerate(note["slots"]):
            if seat is None or seat["key"] not in waiting:
                continue  # ended after the checkpoint, and was handed over
            if slot is None:
                break  # fewer slots than before: the rest starts again from the queue
            trial = waiting[seat["key"]]
            self._queue.remove(trial)
            if self._is_admitted(trial):
                self._seat(slot, trial, take(saved, place), seat)
                slot = next(free, None)


def _is_due(seat: Seat) -> bool:
    return seat.step >= seat.trial.steps or seat.step in seat.trial.looks
