"""A recipe's trials as the workers of a sweep see them: what each is, what it costs, and the row it ends as."""

from __future__ import annotations

import dataclasses
import functools
import platform
import time
from collections.abc import Sequence
from typing import Any

import jax

from ftcot_jax.artifacts import Artifact, address
from ftcot_jax.config import TrialRecipe
from ftcot_jax.stages.api_student import ApiJob, find_api_scores
from ftcot_jax.stages.evaluate import find_scores, selected_step
from ftcot_jax.stages.place import Place
from ftcot_jax.stages.train import groups
from ftcot_jax.stages.trials import Job, find_student, score_inputs
from ftcot_jax.sweeps.rows import code_version
from ftcot_jax.tasks.templates import get_template


@dataclasses.dataclass(frozen=True)
class Entry:
    """One trial of a sweep.

    Attributes:
      job: the trial, whose student runs here or lives at an API.
      key: of what it is claimed by and of its result: whatever decides the student and its scores.
      group: its compiled program of training; "asked" for a student that is asked as it is, "api" for an API's.
      cost: about how much work it is, beside the others; an API's is none of ours.
    """

    job: Job | ApiJob
    key: str
    group: str
    cost: float

    @property
    def spec(self) -> TrialRecipe:
        return self.job.spec

    @property
    def name(self) -> str:
        return self.job.spec.name

    @property
    def steps(self) -> int:
        return self.job.steps if isinstance(self.job, Job) else 0

    @property
    def trains(self) -> bool:
        return isinstance(self.job, Job) and self.job.trains

    def listing(self) -> dict[str, Any]:
        """What is known of it before it starts, as JSON values."""
        return {
            "key": self.key,
            "name": self.name,
            "arm": self.spec.arm,
            "group": self.group,
            "steps": self.steps,
            "overlay": self.spec.overlay,
        }


def entries(place: Place, jobs: Sequence[Job], api_jobs: Sequence[ApiJob]) -> list[Entry]:
    """All trials, those of one compiled program next to each other; the same order for every worker."""
    found = [_entry(place, job, group) for group, members in groups(jobs).items() for job in members]
    found += [_entry(place, job, "asked") for job in jobs if not job.trains]
    return found + [Entry(job, address("trial", job.inputs), "api", 0.0) for job in api_jobs]


def _entry(place: Place, job: Job, group: str) -> Entry:
    inputs = {
        "student": job.key,
        "scores": score_inputs(place, job, job.steps, "test"),
        "evaluate": job.spec.recipe.evaluate.model_dump(mode="json"),
        "asked_on_the_way": score_inputs(place, job, job.steps, "validation")["asked"],
    }
    return Entry(job, address("trial", inputs), group, _cost(place, job))


def _cost(place: Place, job: Job) -> float:
    """Parameters times tokens; a token that is learned from costs three of one that is written."""
    parameters = sum(leaf.size for leaf in jax.tree.leaves(job.student.shapes))
    evaluate, split = job.spec.recipe.evaluate, place.task(job.spec.recipe).split
    learned = 0.0
    if job.trains:
        chosen = job.records.selection.chosen
        learned = float(job.records.table.lengths[chosen].sum()) * job.data.epochs_at(job.steps)
    longest = evaluate.most_new_tokens(get_template(job.spec.recipe.template)) or evaluate.max_length
    written = (evaluate.questions or len(split.test)) * evaluate.samples * longest / 2 * (1 + len(job.looks))
    return float(parameters) * (3 * learned + written)


@dataclasses.dataclass(frozen=True)
class Scored:
    """A trial's artefacts once it is done.

    Attributes:
      student: None for one that was not trained here.
      scores: of the student that is reported.
      epoch: the reported one; None for an API's.
    """

    student: Artifact | None
    scores: Artifact
    epoch: float | None


def find_scored(place: Place, job: Job | ApiJob) -> Scored | None:
    """What a trial has ended as, or None while something is missing."""
    if isinstance(job, ApiJob):
        scores = find_api_scores(place, job)
        return None if scores is None else Scored(None, scores, None)
    student, step = find_student(place, job) if job.trains else None, selected_step(place, job)
    scores = None if step is None else find_scores(place, job, step)
    if step is None or scores is None or (job.trains and student is None):
        return None
    return Scored(student, scores, round(job.epochs_at(step), 3) if job.trains else 0.0)


def artifact_names(place: Place, entry: Entry) -> set[str]:
    """Those of a finished trial's artefacts whose names are known without reading any."""
    if isinstance(entry.job, ApiJob):
        return {f"scores-{address('scores', entry.job.inputs)}"}
    names = {f"student-{entry.job.key}"} if entry.trains else set()
    if entry.job.spec.recipe.evaluate.selection == "last" or not entry.trains:
        names.add(f"scores-{address('scores', score_inputs(place, entry.job, entry.job.steps, 'test'))}")
    return names


def row(entry: Entry, scored: Scored, worker: dict[str, Any], seconds: dict[str, float]) -> dict[str, Any]:
    """A trial's result, as JSON values.

    Args:
      entry: the trial.
      scored: what it ended as.
      worker: who made it.
      seconds: of wall time: "prepare", what that worker spent before its first trial; "total", since it claimed this.
    """
    training = None if scored.student is None else scored.student.manifest["summary"]
    times = {
        "train": None if training is None else training["seconds"],
        "score": scored.scores.manifest["summary"].get("seconds"),
        **{part: round(value, 3) for part, value in seconds.items()},
    }
    return {
        **entry.listing(),
        "recipe": entry.spec.recipe.model_dump(mode="json", by_alias=True),
        "accuracy": scored.scores.manifest["summary"]["accuracy"],
        "scores": scored.scores.manifest["summary"],
        "training": training,
        "epoch": scored.epoch,
        "artifacts": {
            "student": None if scored.student is None else scored.student.name,
            "scores": scored.scores.name,
        },
        "seconds": times,
        **origin(worker),
    }


def origin(worker: dict[str, Any]) -> dict[str, Any]:
    """When and by what a row was made."""
    return {
        "worker": worker,
        "code": code_version(),
        "hardware": hardware(),
        "jax": jax.__version__,
        "finished_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


@functools.cache
def hardware() -> dict[str, str]:
    return {
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "machine": platform.machine(),
        "system": platform.system(),
    }
