"""How far a sweep has come, from the files its workers leave; nothing is computed, waited for or written."""

from __future__ import annotations

import dataclasses
import datetime
import json
import time
from collections.abc import Sequence
from typing import Any, Literal

from etils import epath
from rich.console import Console
from rich.table import Table

from ftcot_jax.errors import UsageError
from ftcot_jax.remote_folder import names
from ftcot_jax.sweeps.claims import Machine
from ftcot_jax.sweeps.listing import read_listings
from ftcot_jax.sweeps.rows import Rows

State = Literal["done", "running", "failed", "waiting"]
STATES: tuple[State, ...] = ("done", "running", "failed", "waiting")


@dataclasses.dataclass(frozen=True)
class TrialStatus:
    """One trial.

    Attributes:
      name, arm, group, steps: as its worker's listing has them.
      state: waiting also while only a lost worker holds it.
      worker: the session that has done it, or is at it.
      step: the next one, of a running trial that has begun.
      steps_per_second: of a running one.
      beat_seconds: since its worker was last heard of, of a running one.
      accuracy, seconds: of a done one; seconds of training and of scoring.
      reason: of a failed one.
    """

    name: str
    arm: str
    group: str
    steps: int
    state: State
    worker: str | None = None
    step: int | None = None
    steps_per_second: float | None = None
    beat_seconds: float | None = None
    accuracy: float | None = None
    seconds: tuple[float, float] | None = None
    reason: str | None = None


@dataclasses.dataclass(frozen=True)
class GroupStatus:
    """Trials of one compiled program; `eta_seconds` is None where nothing tells."""

    group: str
    arms: list[str]
    counts: dict[State, int]
    eta_seconds: float | None


@dataclasses.dataclass(frozen=True)
class SweepStatus:
    """A sweep: its groups in order, its trials, and how many workers live."""

    name: str
    groups: list[GroupStatus]
    trials: list[TrialStatus]
    workers: int

    def counts(self) -> dict[State, int]:
        return _counts(self.trials)


def read_status(folder: epath.Path, name: str | None = None) -> list[SweepStatus]:
    """The sweeps that work, or worked, in a folder.

    Args:
      folder: their output folder.
      name: of the one recipe that is asked for; None for all.

    Raises:
      UsageError: none has been started there.
    """
    listings = {key: rows for key, rows in read_listings(folder).items() if name in (None, key)}
    if not listings:
        raise UsageError(
            f"{folder}: no sweep{f' of {name}' if name else ''} has begun here; `ftcot sweep run` begins one"
        )
    rows, running, workers = Rows(folder), *_running(folder / "workers")
    done, failed = rows.finished(), rows.failures()
    found = []
    for key, listing in listings.items():
        trials = [_trial(entry, rows, done, failed, running) for entry in listing]
        members: dict[str, list[TrialStatus]] = {}
        for trial in trials:
            members.setdefault(trial.group, []).append(trial)
        groups = [_group(group, of_it, workers) for group, of_it in members.items()]
        found.append(SweepStatus(key, groups, trials, workers))
    return found


def _running(folder: epath.Path) -> tuple[dict[str, dict[str, Any]], int]:
    """What the living workers are at, by trial, and how many of them there are."""
    running: dict[str, dict[str, Any]] = {}
    workers = 0
    for path in [folder / name for name in names(folder) if name.endswith(".json") and not name.startswith(".")]:
        note = json.loads(path.read_text(encoding="utf-8"))
        age = max(0.0, time.time() - path.stat().mtime)  # two clocks, so only for people; claims do not ask it
        if note["ended"] or age > note["lease_seconds"] or Machine(**note["machine"]).is_dead():
            continue
        workers += 1
        session = path.name.removesuffix(".json")
        running |= {trial["key"]: trial | {"worker": session, "beat_seconds": age} for trial in note["running"]}
    return running, workers


def _trial(
    entry: dict[str, Any], rows: Rows, done: set[str], failed: dict[str, int], running: dict[str, dict[str, Any]]
) -> TrialStatus:
    key = entry["key"]
    known = {part: entry[part] for part in ("name", "arm", "group", "steps")}
    if key in done:
        row = rows.result(key)
        seconds = (row["seconds"]["train"] or 0.0, row["seconds"]["score"] or 0.0)
        worker = row["worker"]["session"]
        return TrialStatus(**known, state="done", worker=worker, accuracy=row["accuracy"], seconds=seconds)
    if key in running:
        at = {part: running[key].get(part) for part in ("worker", "step", "steps_per_second", "beat_seconds")}
        return TrialStatus(**(known | at), state="running")
    if key in failed:
        row = rows.failure(key, failed[key])
        return TrialStatus(**known, state="failed", worker=row["worker"]["session"], reason=row["reason"])
    return TrialStatus(**known, state="waiting")


def _counts(trials: Sequence[TrialStatus]) -> dict[State, int]:
    return {state: sum(trial.state == state for trial in trials) for state in STATES}


def _group(name: str, trials: Sequence[TrialStatus], workers: int) -> GroupStatus:
    arms = list(dict.fromkeys(trial.arm for trial in trials))
    return GroupStatus(name, arms, _counts(trials), _eta(trials, workers))


def _eta(trials: Sequence[TrialStatus], workers: int) -> float | None:
    """Seconds to the group's end: what is left by the rates of the trials that run, or else of those that are done."""
    left = [trial for trial in trials if trial.state in ("running", "waiting")]
    if not left:
        return 0.0
    done = [trial.seconds for trial in trials if trial.seconds is not None]
    steps = sum(trial.steps - (trial.step or 0) for trial in left)
    rate = sum(trial.steps_per_second or 0.0 for trial in trials)
    trained = sum(trial.steps for trial in trials if trial.seconds is not None)
    at_once = max(1, workers)
    if not steps:
        training = 0.0
    elif rate:
        training = steps / rate
    elif trained:
        training = steps * sum(train for train, _ in done) / trained / at_once
    else:
        return None
    if not done:
        return training if steps else None
    return training + len(left) * sum(score for _, score in done) / len(done) / at_once


def as_json(sweeps: Sequence[SweepStatus]) -> str:
    """For machines."""
    rows = [dataclasses.asdict(sweep) | {"counts": sweep.counts()} for sweep in sweeps]
    return json.dumps(rows, indent=1)


def show(sweeps: Sequence[SweepStatus], console: Console) -> None:
    """Prints tables: groups, then what runs, then what failed."""
    for sweep in sweeps:
        counts = ", ".join(f"{count} {state}" for state, count in sweep.counts().items())
        console.print(f"{sweep.name}: {len(sweep.trials)} trials: {counts}; {sweep.workers} workers", markup=False)
        groups = Table("group", "arms", *STATES, "time left")
        for number, group in enumerate(sweep.groups, 1):
            arms = group.arms[0] + (f" and {len(group.arms) - 1} more" if len(group.arms) > 1 else "")
            groups.add_row(str(number), arms, *(str(group.counts[state]) for state in STATES), _time(group.eta_seconds))
        console.print(groups, markup=False)
        _print_some(console, sweep, "running", ["trial", "worker", "step", "last heard of"], _running_cells)
        _print_some(console, sweep, "failed", ["trial", "worker", "reason"], _failed_cells)


def _print_some(console: Console, sweep: SweepStatus, state: State, head: list[str], cells: Any) -> None:
    chosen = [trial for trial in sweep.trials if trial.state == state]
    if chosen:
        table = Table(*head, title=state, title_justify="left")
        for trial in chosen:
            table.add_row(*cells(trial))
        console.print(table, markup=False)


def _running_cells(trial: TrialStatus) -> list[str]:
    step = f"{'-' if trial.step is None else trial.step} of {trial.steps}" if trial.steps else "asking"
    return [trial.name, trial.worker or "", step, f"{trial.beat_seconds or 0:.0f} s ago"]


def _failed_cells(trial: TrialStatus) -> list[str]:
    return [trial.name, trial.worker or "", trial.reason or ""]


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else str(datetime.timedelta(seconds=round(seconds)))
