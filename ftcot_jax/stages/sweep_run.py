"""A worker's way through a sweep: its own share first, then whatever nobody has or a lost worker leaves, to the end.

A run is a sweep with one worker. Several, on any machines, need nothing but a folder that all of them see.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
import traceback
from collections.abc import Collection, Iterator, Sequence
from types import FrameType
from typing import Any

from ftcot_jax.errors import FtcotError, Preempted
from ftcot_jax.progress import SECONDS_BETWEEN_LINES
from ftcot_jax.remote_folder import reaching
from ftcot_jax.stages.api_student import ApiJob, score_api_job
from ftcot_jax.stages.evaluate_trained import evaluate
from ftcot_jax.stages.place import Place
from ftcot_jax.stages.sweep_entries import Entry, artifact_names, find_scored, origin, row
from ftcot_jax.stages.train import train_group
from ftcot_jax.stages.trials import Job, find_student
from ftcot_jax.sweeps.claims import BEATS_A_LEASE, Claims
from ftcot_jax.sweeps.rows import Rows
from ftcot_jax.sweeps.shares import Share
from ftcot_jax.training.hparams import write_hparams
from ftcot_jax.training.reporting import board_folder
from ftcot_jax.training.wandb_run import require_wandb

POOLS, BOARD = "pools", "tensorboard"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0


def work(place: Place, entries: Sequence[Entry], share: Share, lease: float, retry_failed: bool = False) -> None:
    """Does a worker's part of a sweep; returns when every trial has ended, whoever did it.

    Args:
      place: the sweep's folder.
      entries: all its trials, the same for every worker.
      share: which of them are this worker's to begin with.
      lease: seconds without a sign of life after which a worker counts as lost.
      retry_failed: trials that have failed before are tried once more.

    Raises:
      Preempted: the process was asked to stop; everything is saved, and others may go on with it at once.
      FtcotError: trials failed; the others were done all the same.
    """
    if any(entry.trains and entry.spec.recipe.train.wandb is not None for entry in entries):
        require_wandb()
    if not place.processes.lead:
        _follow(place, entries)
        return
    with _stopping(), _Worker.at(place, entries, share, lease, retry_failed) as worker:
        while (task := worker.next()) is not None:
            place.processes.decide("task", task)
            _do(place, entries, task, worker)
        place.processes.decide("task", None)
    done = worker.gather()
    if worker.failures:
        first = "; ".join(f"{name}: {reason}" for name, reason in list(worker.failures.items())[:3])
        raise FtcotError(
            f"{len(worker.failures)} of {len(entries)} trials failed ({first}), {done} are done; what diverged needs a "
            "lower train.learning_rate, and `ftcot sweep run` with --retry-failed tries the same again"
        )


def _follow(place: Place, entries: Sequence[Entry]) -> None:
    """The part of the other processes of a worker: they train with process 0 what it has decided on."""
    nobody: Any = None
    while (task := place.processes.decide("task")) is not None:
        if "pool" in task:
            _train(place, entries, task, nobody)


def _do(place: Place, entries: Sequence[Entry], task: dict[str, Any], worker: _Worker) -> None:
    if "pool" in task:
        with worker.failing_as_a_whole(task["group"]):
            _train(place, entries, task, worker)
    else:
        worker.ask(task["keys"])


def _train(place: Place, entries: Sequence[Entry], task: dict[str, Any], worker: Any) -> None:
    group = [entry.job for entry in entries if entry.group == task["group"] and isinstance(entry.job, Job)]
    by_key = {job.key: job for job in group}
    with place.timed("train"):
        train_group(place, group, [by_key[key] for key in task["keys"]], f"{POOLS}/{task['pool']}", worker)


@contextlib.contextmanager
def _stopping() -> Iterator[None]:
    """Turns the first SIGTERM or Ctrl-C outside a pool, which saves first, into `Preempted`; a second ends at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def stop(number: int, frame: FrameType | None) -> None:
        for one, handler in before.items():
            signal.signal(one, handler)
        raise Preempted(f"stopped by {signal.Signals(number).name}; run the same command to go on")

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Worker:
    """One worker's view of a sweep; its trials are named by their job's key towards the pool."""

    def __init__(
        self, place: Place, entries: Sequence[Entry], share: Share, lease: float, claims: Claims, retry: bool
    ) -> None:
        self._place, self._entries, self._claims, self._share = place, entries, claims, share
        self._by_job = {entry.job.key: entry for entry in entries if isinstance(entry.job, Job)}
        self._by_key = {entry.key: entry for entry in entries}
        own = share.of([entry.cost for entry in entries])
        mine = [entries[number] for number in own]
        # Others' trials come last to first, so that we meet their owner late.
        self._order = mine + [entry for entry in reversed(entries) if entry.key not in {one.key for one in mine}]
        self._own, self._lease, self._prepared = len(mine), lease, sum(place.seconds.values())
        self._rows = Rows(place.folder)
        self._retried = self._rows.failures() if retry else {}
        self._known_failures: dict[str, int] = {}
        self._since: dict[str, float] = {}
        self._running: dict[str, dict[str, Any]] = {}
        self._lost: frozenset[str] = frozenset()
        self._given_up: set[str] = set()
        self._pools = 0
        self.failures: dict[str, str] = {}

    @classmethod
    @contextlib.contextmanager
    def at(cls, place: Place, entries: Sequence[Entry], share: Share, lease: float, retry: bool) -> Iterator[_Worker]:
        """A worker that beats while it is inside, and leaves nothing claimed."""
        claims = Claims(place.folder, share.name, lease)
        worker = cls(place, entries, share, lease, claims, retry)
        worker._rows.prepare()
        claims.beat()
        worker._tidy()
        over = threading.Event()
        thread = threading.Thread(target=worker._beat, args=(over, lease / BEATS_A_LEASE), daemon=True)
        thread.start()
        try:
            yield worker
        finally:
            over.set()
            thread.join()
            claims.close()

    def _beat(self, over: threading.Event, seconds: float) -> None:
        silent = False
        while not over.wait(seconds):
            try:
                self._claims.beat(list(self._running.values()))
                self._lost = frozenset(self._claims.superseded())
                silent = False
            except (OSError, FtcotError) as error:
                if not silent:
                    self._place.say(f"{self._claims.session}: no sign of life could be written ({error}); trying on")
                silent = True

    def _tidy(self) -> None:
        """Says what is done already; opens trials again whose student or scores were removed."""
        done = self._rows.finished() & self._by_key.keys()
        root = self._place.folder / "artifacts"
        there = {path.name for path in root.iterdir()} if root.exists() else set()
        for key in done:
            if not artifact_names(self._place, self._by_key[key]) <= there:
                self._rows.forget(key)
                done = done - {key}
        if done:
            self._place.say(f"{len(done)} of {len(self._entries)} trials are done already, and stay as they are")

    def next(self) -> dict[str, Any] | None:
        """What to do next, waiting while others are at all that is left; None when nothing is."""
        pause, told = _FIRST_PAUSE, time.monotonic()
        while True:
            self._claims.look()
            left = self._open()
            if not left:
                return None
            free = [entry for entry in left if self._claims.may_take(entry.key)]
            if free:
                return self._task(free)
            if time.monotonic() - told > SECONDS_BETWEEN_LINES:
                told = time.monotonic()
                holders = sorted({self._claims.holder(entry.key) for entry in left})
                self._place.say(f"waiting for {len(left)} trials that {', '.join(holders)} works on")
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE, self._lease / BEATS_A_LEASE)

    def _open(self) -> list[Entry]:
        """Trials that have not ended, own ones first; notes why the failed ones have."""
        done, failed = self._rows.finished(), self._rows.failures()
        self._known_failures = failed
        left = []
        for entry in self._order:
            times = failed.get(entry.key, 0)
            if entry.key in done:
                continue
            if times > self._retried.get(entry.key, 0):
                if entry.name not in self.failures:
                    self.failures[entry.name] = self._rows.failure(entry.key, times)["reason"]
            elif entry.group not in self._given_up:
                left.append(entry)
        return left

    def _task(self, free: Sequence[Entry]) -> dict[str, Any]:
        """The first of the free trials, with those that it can be done together with."""
        first = free[0]
        own = {entry.key for entry in self._order[: self._own]}
        same = [entry for entry in free if entry.group == first.group and (entry.key in own) == (first.key in own)]
        if not self._needs_training(first):
            together = [entry for entry in same if isinstance(entry.job, Job) and entry.job.key == _student(first)]
            return {"keys": [entry.key for entry in together] or [first.key]}
        keys = [entry.job.key for entry in same if isinstance(entry.job, Job) and self._needs_training(entry)]
        return {"pool": self._pool_folder(first.group), "group": first.group, "keys": keys}

    def _needs_training(self, entry: Entry) -> bool:
        return isinstance(entry.job, Job) and entry.trains and find_student(self._place, entry.job) is None

    def _pool_folder(self, group: str) -> str:
        """A folder of this worker's own for a pool; what a lost worker saved of that group's trials moves into it."""
        pools = self._place.folder / POOLS
        prefix, self._pools = f"pool-{group}-", self._pools + 1
        name = f"{prefix}{self._claims.session}-{self._pools}"
        found = [path for path in pools.iterdir() if path.name.startswith(prefix)] if pools.exists() else []
        found.sort(key=lambda path: (not path.name.startswith(f"{prefix}{self._share.name}-"), path.name))
        for path in found:
            session = path.name.removeprefix(prefix).rpartition("-")[0]
            if (path / "checkpoints").exists() and self._claims.sessions.ended(session):
                with contextlib.suppress(FileNotFoundError), reaching(path):  # another was faster
                    path.rename(pools / name)
                    self._place.say(f"going on from what {session} saved")
                    break
        return name

    def ask(self, keys: Sequence[str]) -> None:
        """Scores trials that need no training, or none any more."""
        mine = [entry for entry in map(self._by_key.__getitem__, keys) if self._claim(entry)]
        for entry in mine:
            if isinstance(entry.job, ApiJob):
                score_api_job(self._place, entry.job)
            else:
                try:
                    evaluate(self._place, [entry.job])
                except Preempted:
                    raise
                except FtcotError as error:
                    self._fail(entry, str(error))
                    continue
            self._publish(entry)

    @contextlib.contextmanager
    def failing_as_a_whole(self, group: str) -> Iterator[None]:
        """An unexpected error of a pool, such as no memory, ends the trials in it and its group here, not the sweep."""
        try:
            yield
        except (FtcotError, OSError):
            raise
        except Exception as error:
            if self._place.processes.count > 1:
                raise  # the others wait in the middle of a step
            if os.environ.get("FTCOT_DEBUG"):
                traceback.print_exc()
            text = " ".join(str(error).split())[:300]
            self._given_up.add(group)
            for key in self._claims.held:
                self._fail(self._by_key[key], f"{type(error).__name__}: {text}")

    def admits(self, key: str) -> bool:
        return self._claim(self._by_job[key])

    def _claim(self, entry: Entry) -> bool:
        """Claims a trial; False if another was faster, or has done it meanwhile."""
        if entry.key in self._claims.held:
            return self._claims.holds(entry.key)
        self._claims.look()
        if not self._claims.take(entry.key):
            return False
        known = self._known_failures.get(entry.key, 0)
        if entry.key in self._rows.finished() or self._rows.failures().get(entry.key, 0) > known:
            self._claims.release(entry.key)
            return False
        self._since[entry.key] = time.monotonic()
        self._running[entry.key] = {"key": entry.key, "name": entry.name, "steps": entry.steps, "step": None}
        return True

    def lost(self) -> Collection[str]:
        return {job.key for key in self._lost if isinstance(job := self._by_key[key].job, Job)}

    def holds(self, key: str) -> bool:
        entry = self._by_job[key]
        if self._claims.holds(entry.key):
            return True
        self._forget(entry)
        return False

    def progress(self, key: str, step: int) -> None:
        entry, now = self._by_job[key], time.monotonic()
        before = self._running.get(entry.key)
        if before is None:
            return
        first, began = before.get("first_step", step), self._since.setdefault(f"{entry.key} steps", now)
        rate = (step - first) / (now - began) if now > began else None
        self._running[entry.key] = before | {"step": step, "first_step": first, "steps_per_second": rate}

    def ended(self, key: str) -> None:
        self._publish(self._by_job[key])

    def failed(self, key: str, reason: str) -> None:
        self._fail(self._by_job[key], reason)

    @property
    def _who(self) -> dict[str, Any]:
        return {"share": f"{self._share.number}/{self._share.count}", "session": self._claims.session}

    def _publish(self, entry: Entry) -> None:
        scored = find_scored(self._place, entry.job)
        if scored is None:
            self._fail(entry, "its scores are not all there after it ended")
            return
        if self._claims.holds(entry.key):
            seconds = {"prepare": self._prepared, "total": time.monotonic() - self._since[entry.key]}
            made = row(entry, scored, self._who, seconds)
            if self._rows.publish(entry.key, made) and isinstance(entry.job, Job):
                board = board_folder(self._place.local / BOARD, entry.name, entry.job.key)
                write_hparams(board, made)
                self._place.mirror(BOARD).push([board.name])
        self._forget(entry)

    def _fail(self, entry: Entry, reason: str) -> None:
        if self._claims.holds(entry.key):
            attempt = self._known_failures.get(entry.key, 0) + 1
            note = entry.listing() | {"reason": reason, "attempt": attempt} | origin(self._who)
            self._rows.fail(entry.key, attempt, note)
        self._forget(entry)

    def _forget(self, entry: Entry) -> None:
        self._claims.release(entry.key)
        self._running.pop(entry.key, None)
        self._since.pop(f"{entry.key} steps", None)

    def gather(self) -> int:
        """Writes all results there are as one file; returns how many are this sweep's."""
        self._rows.gather()
        return len(self._rows.finished() & self._by_key.keys())


def _student(entry: Entry) -> str | None:
    return entry.job.key if isinstance(entry.job, Job) else None
