"""Which trials share a compiled program, and how many of them are in it side by side; training and the plan ask."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import jax

from ftcot_jax.records.plan import TokenBudget
from ftcot_jax.stages.place import digest
from ftcot_jax.students.student import Student
from ftcot_jax.sweeps.plan_work import tree_bytes
from ftcot_jax.training.settings import TrainSettings

MOST_SLOTS = 8  # a place along `trial`, where nobody asks for more


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


def slots(
    train: TrainSettings, student: Student, trials: int, axes: Mapping[str, int], backend: str, memory: float | None
) -> int:
    """Slots asked for; or one on a CPU, which a single student keeps busy, and elsewhere up to eight for each place
    along `trial`: as many as an eighth of the memory holds, with weights, gradients and two moments.

    Args:
      train: the trials' settings of training.
      student: theirs.
      trials: more slots than these are of no use.
      axes: the mesh's sizes by name.
      backend: "cpu", or another.
      memory: bytes of a device; None where nobody knows, and then it is one slot.
    """
    each = 1
    if backend != "cpu" and memory is not None:
        state = 4 * tree_bytes(student.split(student.shapes)[1]) / (axes["fsdp"] * axes["tensor"])
        each = min(MOST_SLOTS, max(1, int(memory / 8 / state)))
    wanted = train.slots or each * axes["trial"]
    return math.ceil(min(wanted, trials) / axes["trial"]) * axes["trial"]


def memory_of(device: jax.Device) -> float | None:
    """Bytes that a device may hold; None where it does not say."""
    stats = device.memory_stats()
    return None if not stats else stats.get("bytes_limit")
