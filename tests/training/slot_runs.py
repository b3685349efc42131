"""Small students of three families, and a few steps of them in slots on any mesh."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np

from ftcot_jax.records.batch import device_table, stack_batches
from ftcot_jax.records.plan import Planner, TrialData
from ftcot_jax.students.load import load_student
from ftcot_jax.students.settings import StudentSettings
from ftcot_jax.students.student import Student
from ftcot_jax.training.mesh import make_mesh
from ftcot_jax.training.optimizer import Hyper
from ftcot_jax.training.settings import MeshSettings, TrainSettings
from ftcot_jax.training.slots import empty_slots, refill
from ftcot_jax.training.step import Executor, SlotState, make_train_step, new_state
from tests.training.tiny import make_records

TABLE = make_records(30)
FAMILIES: dict[str, dict[str, Any]] = {  # every dimension that a mesh axis may split divides by 8
    "gpt2": {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 8, "n_positions": 64, "resid_pdrop": 0.2},
    "t5": {"model_type": "t5", "d_model": 32, "d_kv": 4, "d_ff": 48, "num_layers": 2, "num_heads": 8},
    "llama": {
        "model_type": "llama",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 8,
        "num_key_value_heads": 8,
        "max_position_embeddings": 64,
    },
}


@functools.cache
def student_of(family: str) -> Student:
    """A student from scratch, with room for the tokens of `TABLE`."""
    words = [f"word{number}" for number in range(60)]
    return load_student(StudentSettings(scratch=FAMILIES[family] | {"vocab_size": 64}), words)


def hyper_of(number: int, steps: int) -> Hyper:
    """Trial number `number`'s own hyper-parameters."""
    schedules: Any = ("constant", "linear", "cosine")
    # Adam would divide the rounding of a gradient that is zero, as of the keys' bias, by its own size.
    return Hyper.of(
        TrainSettings(
            learning_rate=1e-2 / (number + 1),
            weight_decay=0.1 * number,
            schedule=schedules[number % 3],
            clip_norm=None if number % 2 else 1.0,
            epsilon=1e-5,
            seed=number,
        ),
        steps,
    )


def data_of(number: int) -> TrialData:
    """Trial number `number`'s records: two full batches an epoch, and one of a few records."""
    return TrialData(np.arange(number, 30), seed=number, batch_examples=13)


def run_slots(
    student: Student,
    numbers: list[int],
    *,
    steps: int = 3,
    executor: Executor = "vmap",
    mesh: MeshSettings | None = None,
    microbatches: int = 1,
) -> tuple[SlotState, np.ndarray]:
    """Trains these trials side by side; returns their state and the metrics (steps, fields, slots)."""
    layout = make_mesh(mesh or MeshSettings())
    planner = Planner.for_trials(
        TABLE,
        [data_of(number) for number in numbers],
        width=16,
        kind=student.kind,
        row_multiple=layout.shape["data"] * layout.shape["fsdp"],
        microbatches=microbatches,
    )
    states = [new_state(student.init(jax.random.key(number)), hyper_of(number, steps)) for number in numbers]
    state = empty_slots(states[0], len(numbers), layout, student.sharding_rules)
    for slot, one in enumerate(states):
        state = refill(state, slot, one)
    step, table, metrics = make_train_step(student, layout, executor), device_table(TABLE), []
    for number in range(steps):
        planned = [planner.batches(data_of(trial).at(number))[planner.shapes[-1]] for trial in numbers]
        state, row = step(state, table, stack_batches(planned), planner.shapes[-1])
        metrics.append(np.stack(row))
    return state, np.array(metrics)
