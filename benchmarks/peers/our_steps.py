"""Our packed train step: `python -m benchmarks.peers.our_steps FOLDER`, told how many steps to take."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import jax
import numpy as np

from benchmarks.peers.answering import Step, answer, claim_stdout
from benchmarks.peers.prepare import SEED
from benchmarks.peers.work import STUDENT, GivenWork
from ftcot_jax.records.batch import device_table, stack_batches
from ftcot_jax.records.plan import Planner, TrialData
from ftcot_jax.records.table import RecordTable
from ftcot_jax.students.load import load_student
from ftcot_jax.students.settings import StudentSettings
from ftcot_jax.training.mesh import make_mesh
from ftcot_jax.training.optimizer import Hyper
from ftcot_jax.training.settings import MeshSettings, TrainSettings
from ftcot_jax.training.slots import empty_slots, refill
from ftcot_jax.training.step import make_train_step, new_state


def table_of(work: GivenWork) -> RecordTable:
    """The given records as ours has them."""
    lengths = [len(record) for record in work.records]
    nothing = np.zeros(len(lengths), np.int64)
    return RecordTable.of(
        np.concatenate(work.records), lengths, work.prompt_lengths, nothing, nothing, np.ones(len(lengths), bool)
    )


def our_step(folder: Path, work: GivenWork) -> tuple[Step, float]:
    """The step, and the seconds it took to compile for the shapes of all steps."""
    student = load_student(StudentSettings(checkpoint=str(folder / STUDENT), dropout=work.dropout))
    student = student.on(jax.default_backend())
    mesh, table = make_mesh(MeshSettings()), table_of(work)
    trial = TrialData(np.arange(len(table)), SEED, work.batch)
    width = jax.eval_shape(student.head, student.shapes).shape[1]
    planner = Planner.for_trials(table, [trial], width=width)
    hyper = Hyper.of(TrainSettings(learning_rate=3e-4), len(work.steps))
    on_device, advance = device_table(table), make_train_step(student, mesh, "map")
    planned = [planner.batch(np.array(step)) for step in work.steps]
    began = time.perf_counter()
    state = empty_slots(jax.eval_shape(new_state, student.shapes, hyper), 1, mesh, student.sharding_rules)
    for shape, batch in {shape: batch for batch, shape in planned}.items():
        state, _ = advance(state, on_device, stack_batches([batch]), shape)
    jax.block_until_ready(state)
    seconds = time.perf_counter() - began
    state, taken = refill(state, 0, new_state(student.load(), hyper)), 0

    def step() -> tuple[float, int, int]:
        nonlocal state, taken
        records = work.steps[taken]
        batch, shape = planner.batch(np.array(records))
        state, metrics = advance(state, on_device, stack_batches([batch]), shape)
        jax.block_until_ready(state)
        taken += 1
        return float(metrics.loss[0]), len(records), work.tokens_of(records)

    return step, seconds


if __name__ == "__main__":
    answers, folder = claim_stdout(), Path(sys.argv[1])
    step, compiling = our_step(folder, GivenWork.read(folder))
    about = {"program": f"ftcot_jax, jax {jax.__version__}, packed", "compile_seconds": compiling}
    answer(answers, about, step)
