"""A recipe's grid as trials ready to train: their records, their seeds, and the address of their result."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from ftcot_jax.artifacts import Artifact, address
from ftcot_jax.config import TrialRecipe
from ftcot_jax.errors import FtcotError, UsageError
from ftcot_jax.evaluation.settings import EvaluateSettings
from ftcot_jax.records.plan import TokenBudget, TrialData, part_lengths
from ftcot_jax.stages.data import TrialRecords, trial_records
from ftcot_jax.stages.place import Place, digest
from ftcot_jax.students.fused_attention import require_shared
from ftcot_jax.students.student import Student
from ftcot_jax.training.optimizer import Hyper
from ftcot_jax.training.trial import Trial

PAPER_EXAMPLES = 8
# Settings of training that change how a result is computed, not the result.
_NOT_RESULT = {"input", "slots", "slot_executor", "microbatches", "checkpoints", "wandb", "profile_steps"}


@dataclasses.dataclass(frozen=True)
class Job:
    """One trial of the grid with everything it needs.

    Attributes:
      spec: its recipe and names.
      student: the architecture.
      records: its records artefact, table and selection.
      inputs: what decides the trained weights, as JSON values; their hash addresses the student artefact.
    """

    spec: TrialRecipe
    student: Student
    records: TrialRecords
    inputs: dict[str, Any]

    @functools.cached_property
    def key(self) -> str:
        return address("student", self.inputs)

    @property
    def seed(self) -> int:
        seed = self.spec.recipe.train.seed
        assert seed is not None  # filled in when the grid was expanded
        return seed

    @functools.cached_property
    def data(self) -> TrialData:
        """The plan of its batches, over its own records' table.

        Raises:
          UsageError: a batch of tokens has no room for a row, or a row none for a record.
        """
        batch, chosen = self.spec.recipe.train.batch, self.records.selection.chosen
        if batch.tokens is None:
            return TrialData(chosen, self.seed, batch.examples or PAPER_EXAMPLES)
        try:
            lengths = part_lengths(self.records.table, self.student.kind)[chosen]
            budget, most = TokenBudget.of(lengths, batch.tokens, batch.row_length)
        except ValueError as error:
            raise UsageError(f"{self.spec.name}: train.batch: {error}; raise row_length or tokens") from error
        return TrialData(chosen, self.seed, most, budget)

    @functools.cached_property
    def steps(self) -> int:
        """Optimizer steps in all."""
        train = self.spec.recipe.train
        return train.steps or self.data.first_step(train.total_epochs)

    @property
    def looks(self) -> frozenset[int]:
        """Steps after which the student is scored on the way; the last step is scored by the evaluate stage."""
        settings: EvaluateSettings = self.spec.recipe.evaluate
        looks = {0} if settings.before else set()
        if settings.look_epochs is not None:
            epochs = range(settings.look_epochs, 1 + math.ceil(self.data.epochs_at(self.steps)), settings.look_epochs)
            looks |= {self.data.first_step(epoch) for epoch in epochs}
        return frozenset(look for look in looks if look < self.steps)

    def initial_params(self) -> Any:
        """What the trial trains: pretrained weights; or, from its seed, new adapters of them or random weights."""
        if self.student.compute.lora is not None:
            return self.student.init_adapters(jax.random.key(self.seed))
        if self.student.folder is not None:
            return self.student.load()
        return self.student.init(jax.random.key(self.seed))

    def trial(self, offset: int) -> Trial:
        """The trial as the pool runs it, its records starting at `offset` of the joined table."""
        train = self.spec.recipe.train
        return Trial(
            key=self.key,
            name=self.spec.name,
            data=self.data.moved(offset),
            hyper=Hyper.of(train, self.steps),
            steps=self.steps,
            initial=self.initial_params,
            looks=self.looks,
        )


def prepare(place: Place, specs: Sequence[TrialRecipe]) -> list[Job]:
    """Brings every trial's records about, making what is missing.

    Raises:
      FtcotError: a trial has no teacher, no right rationale, or a question the student cannot hold; or two
        trials of the grid come to the same thing.
    """
    jobs = [_prepare_one(place, spec) for spec in specs]
    seen: dict[str, str] = {}
    for job in jobs:
        if job.key in seen:
            raise FtcotError(f"sweep: '{seen[job.key]}' and '{job.spec.name}' are the same trial; drop one of them")
        seen[job.key] = job.spec.name
    return jobs


def _prepare_one(place: Place, spec: TrialRecipe) -> Job:
    student = place.student(spec.recipe)
    require_shared(student.compute.attention, spec.recipe.train.batch.share_questions)
    if spec.recipe.evaluate.selection == "best_on_validation" and not place.task(spec.recipe).split.validation:
        raise UsageError(f"{spec.name}: evaluate.selection=best_on_validation needs task.validation questions")
    records = trial_records(place, spec.recipe)
    longest = int(records.table.lengths[records.selection.chosen].max())
    assert longest <= student.context_length  # tokenizing refused or dropped longer ones
    inputs = {
        "records": records.artifact.address,
        "chosen": digest(np.asarray(records.selection.chosen).tolist()),
        "train": spec.recipe.train.model_dump(exclude=_NOT_RESULT),
        "student": student.fingerprint,
        "compute": dataclasses.asdict(student.compute),
    }
    return Job(spec, student, records, inputs)


def find_student(place: Place, job: Job) -> Artifact | None:
    """The trained student of a job, if it is there."""
    return place.store.find("student", job.inputs)
