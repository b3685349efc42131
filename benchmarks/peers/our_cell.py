"""Our side of a cell: `python -m benchmarks.peers.our_cell FOLDER EPOCHS`. See `benchmarks.cell`.

The pool that `ftcot run` trains with, its metrics logged, and a look at the student after each epoch.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.peers.answering import claim_stdout
from benchmarks.peers.epochs import epoch_steps, text_lengths
from benchmarks.peers.our_steps import table_of
from benchmarks.peers.prepare import SEED
from benchmarks.peers.work import STUDENT, GivenWork
from ftcot_jax.generation.generate import generate_many
from ftcot_jax.records.plan import TrialData
from ftcot_jax.stages.groups import architecture
from ftcot_jax.students.load import load_student
from ftcot_jax.students.settings import StudentSettings
from ftcot_jax.students.student import Student
from ftcot_jax.training.mesh import make_mesh
from ftcot_jax.training.optimizer import Hyper
from ftcot_jax.training.pool import Pool, PoolOptions
from ftcot_jax.training.settings import CheckpointSettings, MeshSettings, TrainSettings
from ftcot_jax.training.trial import Look, Looked, Trial


class Cell:
    """The pool's listener: has the student write at each look, and notes where the time went."""

    def __init__(self, student: Student, work: GivenWork, steps_an_epoch: int) -> None:
        self.pool: Any = None
        self.train_seconds: list[float] = []
        self.evaluate_seconds: list[float] = []
        self.losses: list[float] = []
        self._student, self._work, self._steps = student, work, steps_an_epoch

    def look(self, due: Sequence[Look], params_S: Any) -> Looked:
        jax.block_until_ready(params_S)
        spent = self.pool.clock.read()
        trained = spent["step"] + spent["input"] + spent["checkpoint"]
        self.train_seconds.append(trained - sum(self.train_seconds))
        began = time.perf_counter()
        epoch = due[0].step // self._steps - 1
        prompts = self._work.prompts
        lengths = text_lengths(prompts, self._work.lengths, epoch)
        generate_many(self._student, params_S, [prompts], max_length=1024, max_new_tokens=[lengths], ignore_end=True)
        self.evaluate_seconds.append(time.perf_counter() - began)
        return Looked()

    def keep(self, trial: Trial, step: int, params: Any) -> None: ...

    def finished(self, trial: Trial, step: int, params: Any, summary: dict[str, Any]) -> None: ...

    def failed(self, trial: Trial, reason: str) -> None:
        sys.exit(f"training stopped: {reason}")

    def progress(self, trial: Trial, step: int, row: dict[str, Any]) -> None:
        self.losses.append(row["loss"])


def run(folder: Path, epochs: int) -> dict[str, Any]:
    """Trains and writes, epoch after epoch; its figures."""
    work = GivenWork.read(folder)
    steps, (epoch, *_) = len(work.steps), epoch_steps(work, epochs)
    student = load_student(StudentSettings(checkpoint=str(folder / STUDENT), dropout=work.dropout))
    student = student.on(jax.default_backend())
    table = table_of(work)
    trial = Trial(
        key="cell",
        name="cell",
        data=TrialData(np.arange(len(table)), SEED, work.batch),
        hyper=Hyper.of(TrainSettings(learning_rate=3e-4), steps),
        steps=steps,
        initial=student.load,
        looks=frozenset(range(len(epoch), steps + 1, len(epoch))),
    )
    cell = Cell(student, work, len(epoch))
    options = PoolOptions(
        slots=1, executor="map", checkpoints=CheckpointSettings(), folder=folder / "pool", board=folder / "board"
    )
    cell.pool = Pool(
        student,
        architecture(student),
        table,
        [trial],
        make_mesh(MeshSettings()),
        options,
        cell,
        lambda line: print(line, file=sys.stderr),
    )
    cell.pool.run()
    return {
        "train_seconds": cell.train_seconds,
        "evaluate_seconds": cell.evaluate_seconds,
        "first_loss": cell.losses[0],
        "last_loss": cell.losses[-1],
    }


if __name__ == "__main__":
    answers = claim_stdout()
    program = f"ftcot_jax, jax {jax.__version__}"
    print(json.dumps({"program": program} | run(Path(sys.argv[1]), int(sys.argv[2]))), file=answers, flush=True)
