"""A sweep before it runs: its trials, the programs they share, and what they will take; as text or JSON."""

from __future__ import annotations

import collections
import dataclasses
import json
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

How = Literal["exact", "about", "at most"]
State = Literal["scored", "trained", "to do"]


class Count(NamedTuple):
    """A number, and how sure it is: `about` from a sample of texts, `at most` where a teacher has not written yet."""

    value: int
    how: How

    def __str__(self) -> str:
        return f"{ {'exact': '', 'about': '~', 'at most': '<='}[self.how] }{self.value:,}"


@dataclasses.dataclass(frozen=True)
class TrialPlan:
    """One trial.

    Attributes:
      number: from 1, in grid order.
      name, arm: as in the grid.
      task, student, template: what is trained on what, and how it is asked.
      diversity: D; None where all there are, or none, are used.
      questions: training questions it may use; None where nothing is trained, or nobody knows.
      asked: test questions; None where nobody knows.
      seed: of training.
      records, steps: None where nothing is trained, or nobody knows.
      state: how far it is.
      group: number of its program, from 1; None where nothing is trained here, or its shapes are not known.
    """

    number: int
    name: str
    arm: str
    task: str
    student: str
    template: str
    diversity: int | None
    questions: int | None
    asked: int | None
    seed: int | None
    records: Count | None
    steps: Count | None
    state: State
    group: int | None


@dataclasses.dataclass(frozen=True)
class GroupPlan:
    """Trials of one compiled program.

    Attributes:
      number: from 1.
      student: what they train.
      trials: how many; `done` of them are trained.
      slots: trained side by side.
      fitting_slots: as many, or as few as fit the device's memory, and at least as its mesh needs.
      steps: of those to be trained, in all; None where one is not known.
      seconds: of their training; None where nobody knows.
      scoring_seconds: of all that is asked of the group's students.
      speed_from: what the seconds are reckoned from.
      state_bytes: weights and moments on one device, exactly.
      working_bytes: gradients and activations on one device, about.
    """

    number: int
    student: str
    trials: int
    done: int
    slots: int
    fitting_slots: int
    steps: Count | None
    seconds: float | None
    scoring_seconds: float | None
    speed_from: str
    state_bytes: int
    working_bytes: int


@dataclasses.dataclass(frozen=True)
class SweepPlan:
    """All of it.

    Attributes:
      name, out: the recipe's name and output folder.
      product: points of the grid before sweep.exclude and sweep.only.
      trials, groups: what will run.
      device: what the times and memory are of.
      devices: how many of them.
      device_bytes: memory of one; None where nobody knows.
      price, spot: US dollars a device and hour; None where there is no price.
      asking_seconds: of students that are asked untrained; None where nobody knows.
      teacher: purchases by name with US dollars at most, None without a price.
      unknown: what could not be known, and what to do about it.
      assumed: what the estimates rest on.
    """

    name: str
    out: str
    product: int
    trials: list[TrialPlan]
    groups: list[GroupPlan]
    device: str
    devices: int
    device_bytes: float | None
    price: float | None
    spot: float | None
    asking_seconds: float | None
    teacher: dict[str, float | None]
    unknown: list[str]
    assumed: list[str]

    @property
    def seconds(self) -> float | None:
        """Of all devices together, one after another; None where a part of it is not known."""
        parts = [self.asking_seconds]
        for group in self.groups:
            parts += [group.seconds, group.scoring_seconds]
        return None if None in parts else sum(part or 0.0 for part in parts)

    @property
    def done(self) -> int:
        """Trials that are trained and scored."""
        return sum(trial.state == "scored" for trial in self.trials)

    def dollars(self, price: float | None) -> float | None:
        """Of the devices, at a price for one and an hour."""
        return None if self.seconds is None or price is None else self.seconds / 3600 * self.devices * price

    def summary(self) -> str:
        """One line: trials, steps, time and cost, for a recipe's head."""
        steps = sum(group.steps.value for group in self.groups if group.steps is not None)
        cost = self.dollars(self.price)
        money = "" if cost is None else f", ${cost:,.2f}"
        time = f"{_span(self.seconds)} on {self.devices} x {self.device}{money}"
        return f"{len(self.trials)} trials, {steps:,} steps; {time}"

    def as_json(self) -> str:
        """For machines."""
        values: dict[str, Any] = dataclasses.asdict(self)
        for row in (*values["trials"], *values["groups"]):
            for key in ("records", "steps"):
                if isinstance(row.get(key), Count):
                    row[key] = row[key]._asdict()
        values |= {
            "done": self.done,
            "left_out": self.product - len(self.trials),
            "seconds": self.seconds,
            "device_dollars": self.dollars(self.price),
            "device_dollars_spot": self.dollars(self.spot),
        }
        return json.dumps(values, indent=1)

    def as_text(self) -> str:
        """For a person."""
        parts = [self._head(), _trial_table(self.trials)]
        if self.groups:
            parts += ["", _group_table(self.groups, self.device_bytes)]
        parts += ["", *self._totals()]
        parts += [f"unknown: {line}" for line in self.unknown]
        parts += [f"assumed: {line}" for line in self.assumed]
        return "\n".join(parts)

    def _head(self) -> str:
        left_out = self.product - len(self.trials)
        more = f" ({left_out} of {self.product} points are left out)" if left_out else ""
        states = collections.Counter(trial.state for trial in self.trials)
        trained = f", {states['trained']} trained but not scored" if states["trained"] else ""
        return f"{self.name}: {len(self.trials)} trials{more}; {self.done} done{trained} in {self.out}\n"

    def _totals(self) -> list[str]:
        device = f"{self.devices} x {self.device}"
        seconds = self.seconds
        if seconds is None:
            lines = [f"time on {device}: not known"]
        else:
            asked = f", untrained students' answers {_span(self.asking_seconds)}" if self.asking_seconds else ""
            training = sum(group.seconds or 0.0 for group in self.groups)
            scoring = sum(group.scoring_seconds or 0.0 for group in self.groups)
            shares = f"training {_span(training)}, answers {_span(scoring)}{asked}"
            lines = [f"time on {device}: about {_span(seconds)} ({shares})"]
        if (cost := self.dollars(self.price)) is not None:
            spot = self.dollars(self.spot)
            cheaper = "" if spot is None else f"; ${spot:,.2f} preemptible"
            lines.append(f"devices: about ${cost:,.2f} at ${self.price:g} a device and hour{cheaper}")
        for name, dollars in self.teacher.items():
            shown = "no price is known (teacher.price)" if dollars is None else f"${dollars:,.2f} at most"
            lines.append(f"teacher: {name}: {shown}")
        return lines


def _trial_table(trials: Sequence[TrialPlan]) -> str:
    head = ["#", "trial", "D", "questions", "asked", "seed", "records", "steps", "group", "state"]
    rows = [
        [row.number, row.name, row.diversity, row.questions, row.asked, row.seed, row.records, row.steps, row.group]
        for row in trials
    ]
    return _table(head, [[*row, trial.state] for row, trial in zip(rows, trials, strict=True)])


def _group_table(groups: Sequence[GroupPlan], device_bytes: float | None) -> str:
    head = ["group", "student", "trials", "done", "slots", "steps", "training", "answers", "memory", "speed from"]
    rows = []
    for row in groups:
        need = row.state_bytes + row.working_bytes
        memory = f"{_gib(row.state_bytes)} + ~{_gib(row.working_bytes)}"
        memory += "" if device_bytes is None else f" of {_gib(device_bytes)}"
        if device_bytes is not None and need > device_bytes:
            fewer = row.fitting_slots < row.slots
            memory += f": TOO MUCH, try train.slots={row.fitting_slots}" if fewer else ": TOO MUCH"
        times = (_span(row.seconds), _span(row.scoring_seconds))
        rows.append(
            [row.number, row.student, row.trials, row.done, row.slots, row.steps, *times, memory, row.speed_from]
        )
    return _table(head, rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    cells = [list(head), *[["-" if cell is None else str(cell) for cell in row] for row in rows]]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def _gib(count: float) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 / 10 else f"{count / 2**20:.1f} MiB"


def _span(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    for unit, size in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"
