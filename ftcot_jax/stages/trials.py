"""A recipe's grid as trials ready to train: their records, their seeds, and the address of their result."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import jax

from ftcot_jax.artifacts import Artifact, address
from ftcot_jax.config import TrialRecipe
from ftcot_jax.errors import FtcotError, UsageError
from ftcot_jax.evaluation.asking import Part
from ftcot_jax.evaluation.settings import EvaluateSettings
from ftcot_jax.records.plan import TokenBudget, TrialData
from ftcot_jax.records.sizes import part_lengths
from ftcot_jax.stages.data import TrialRecords, trial_records
from ftcot_jax.stages.place import Place, digest
from ftcot_jax.students.fused_attention import require_shared
from ftcot_jax.students.student import Student
from ftcot_jax.tasks.templates import get_template
from ftcot_jax.training.optimizer import Hyper
from ftcot_jax.training.trial import Trial

PAPER_EXAMPLES = 8
# Settings of training that change how a result is computed, not the result.
_NOT_RESULT = {"input", "slots", "slot_executor", "microbatches", "checkpoints", "wandb", "profile_steps"}


@dataclasses.dataclass(frozen=True)
class Job:
    """One trial of the grid with everything it needs; a student that is asked untrained takes no step.

    Attributes:
      spec: its recipe and names.
      student: the architecture.
      trains_on: its records artefact, table and selection; None if its template only asks.
      inputs: what decides the trained weights, as JSON values; their hash addresses the student artefact.
    """

    spec: TrialRecipe
    student: Student
    trains_on: TrialRecords | None
    inputs: dict[str, Any]

    @functools.cached_property
    def key(self) -> str:
        return address("student", self.inputs)

    @property
    def seed(self) -> int:
        seed = self.spec.recipe.train.seed
        assert seed is not None  # filled in when the grid was expanded
        return seed

    @property
    def trains(self) -> bool:
        return self.trains_on is not None

    @property
    def records(self) -> TrialRecords:
        assert self.trains_on is not None  # asked of trials that train
        return self.trains_on

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
        """Optimizer steps planned; training may be stopped before them (`last_step`)."""
        train = self.spec.recipe.train
        return (train.steps or self.data.first_step(train.total_epochs)) if self.trains else 0

    def epochs_at(self, step: int) -> float:
        """Epochs after so many steps; of a student that is asked untrained without end, as its answers are no look."""
        return self.data.epochs_at(step) if self.trains else math.inf

    @property
    def looks(self) -> frozenset[int]:
        """Steps on the way after which the student is scored; it is also scored at its end."""
        settings: EvaluateSettings = self.spec.recipe.evaluate
        looks = {0} if settings.before else set()
        if settings.look_epochs is not None and self.trains:
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
    return distinct(place, [prepare_one(place, spec) for spec in specs])


def distinct(place: Place, jobs: Sequence[Job]) -> list[Job]:
    """A student asked untrained is the same under every seed of its arm, unless its weights or questions depend on it.

    It is asked once.

    Raises:
      FtcotError: two trials of the grid come to the same thing.
    """
    seen: dict[str, Job] = {}
    for job in jobs:
        spec = job.spec
        identity = job.key if job.trains else address("scores", score_inputs(place, job, 0, "test"))
        same = seen.setdefault(identity, job)
        if same is job:
            continue
        if job.trains or job.spec.arm != same.spec.arm:
            raise FtcotError(f"sweep: '{same.spec.name}' and '{spec.name}' are the same trial; drop one of them")
        place.say(f"{spec.name}: untrained, so the same as '{same.spec.name}'; asked once")
    return list(seen.values())


def prepare_one(place: Place, spec: TrialRecipe) -> Job:
    """One trial with its records, which are made if they are missing; raises as `prepare`."""
    if not get_template(spec.recipe.template).trains:
        return _prepare_untrained(place, spec)
    student = place.student(spec.recipe)
    require_shared(student.compute.attention, spec.recipe.train.batch.share_questions)
    if spec.recipe.evaluate.selection == "best_on_validation" and not place.task(spec.recipe).split.validation:
        raise UsageError(f"{spec.name}: evaluate.selection=best_on_validation needs task.validation questions")
    records = trial_records(place, spec.recipe)
    longest = int(records.table.lengths[records.selection.chosen].max())
    assert longest <= student.context_length  # tokenizing refused or dropped longer ones
    inputs = {
        "records": records.artifact.address,
        "chosen": digest(map(int, records.selection.chosen)),
        "train": spec.recipe.train.model_dump(exclude=_NOT_RESULT),
        "student": student.fingerprint,
        "compute": dataclasses.asdict(student.compute),
    }
    job = Job(spec, student, records, inputs)
    return job if spec.recipe.evaluate.patience is None else dataclasses.replace(job, inputs=_stopping(place, job))


def _stopping(place: Place, job: Job) -> dict[str, Any]:
    """What decides the weights of a student that may be stopped early: also whatever decides its validation scores."""
    settings = job.spec.recipe.evaluate
    scored = score_inputs(place, job, 0, "validation")
    how = {name: scored[name] for name in scored if name not in ("student", "step", "max_length")}
    lengths = {"max_length": settings.max_length, "paper_lengths": settings.paper_lengths}
    stopping = {"patience": settings.patience, "every_epochs": settings.look_epochs, **how, **lengths}
    return job.inputs | {"stopping": stopping}


def _prepare_untrained(place: Place, spec: TrialRecipe) -> Job:
    """A student asked as it is: its weights without adapters, random ones by the seed they would be trained from."""
    plain = spec.recipe.own_student.model_copy(update={"lora": None})
    spec = spec.model_copy(update={"recipe": spec.recipe.model_copy(update={"student": plain})})
    student, data = place.student(spec.recipe), place.task(spec.recipe)
    questions = data.of([*data.split.test, *data.split.validation])
    inputs = {
        "student": student.fingerprint,
        "compute": dataclasses.asdict(student.compute),
        "seed": spec.recipe.train.seed if student.folder is None else None,
        "task": data.task.key,
        "questions": digest([dataclasses.astuple(question) for question in questions]),
    }
    return Job(spec, student, None, inputs)


def score_inputs(place: Place, job: Job, step: int, part: Part) -> dict[str, Any]:
    """What decides a student's scores, as JSON values."""
    recipe, template = job.spec.recipe, place.template(job.spec.recipe)
    sampling = recipe.evaluate.sampling
    return {
        "student": job.key,
        "step": step,
        "template": dataclasses.asdict(template),
        "scoring": recipe.scoring,
        "asked": digest(getattr(place.task(recipe).split, part)),
        "questions": recipe.evaluate.questions,
        "max_length": recipe.evaluate.length_after(job.epochs_at(step)),
        "max_new_tokens": recipe.evaluate.most_new_tokens(template),
        "sampling": None if sampling is None else sampling.model_dump(),
    }


def find_student(place: Place, job: Job) -> Artifact | None:
    """The trained student of a job, if it is there."""
    return place.store.find("student", job.inputs)


def last_step(place: Place, job: Job) -> int:
    """Steps that training took: those planned, or those after which it was stopped early, as the student tells."""
    student = None if job.spec.recipe.evaluate.patience is None or not job.trains else find_student(place, job)
    return job.steps if student is None else int(student.manifest["summary"]["steps"])
