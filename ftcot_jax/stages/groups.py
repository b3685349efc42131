"""Which trials share a compiled program, and how many of them are in it side by side; training and the plan ask."""

from __future__ import annotations

import math
from typing import Any

from ftcot_jax.records.plan import TokenBudget
from ftcot_jax.stages.place import digest
from ftcot_jax.students.student import Student
from ftcot_jax.training.settings import TrainSettings


def architecture(student: Student) -> str:
    """Names a computation, whatever its weights."""
    return digest(student.identity)


def program(train: TrainSettings, student: Student, budget: TokenBudget | None) -> str:
    """Names what trials of one pool have in common: the compiled program, and the weights that none of them trains.

    Args:
      train: the trial's settings of training.
      student: its student.
      budget: of its batches; None where they hold a number of examples.
    """
    rows = None if budget is None else (budget.rows, budget.room)
    return program_of_rows(train, student, rows)


def program_of_rows(train: TrainSettings, student: Student, rows: tuple[Any, ...] | None) -> str:
    """As `program`, of a batch's compiled rows, or of what stands for rows that are not known yet."""
    base = None if student.compute.lora is None else student.fingerprint
    optimizer, numbers = train.optimizer_parts
    return digest(architecture(student), optimizer, sorted(numbers), rows, train.batch.share_questions, base)


def slots(train: TrainSettings, trials: int, devices: int, trial_axis: int, backend: str) -> int:
    """Slots asked for, or one on a CPU, which a single student keeps busy, and eight a device elsewhere."""
    wanted = train.slots or (1 if backend == "cpu" else 8 * devices)
    return math.ceil(min(wanted, trials) / trial_axis) * trial_axis
