"""Scoring students: one artefact a student and step, with its predictions in the authors' format."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from etils import epath

from ftcot_jax.artifacts import Artifact
from ftcot_jax.errors import FtcotError
from ftcot_jax.evaluation.score_student import score_student
from ftcot_jax.progress import show_progress
from ftcot_jax.stages.place import Place
from ftcot_jax.stages.trials import Job, find_student
from ftcot_jax.students.load import load_student
from ftcot_jax.students.settings import StudentSettings
from ftcot_jax.tasks.templates import get_template
from ftcot_jax.teacher.completion import write_completions

OUTCOMES = "outcomes.json"
PREDICTIONS = "predictions.json"


def evaluate(place: Place, jobs: Sequence[Job]) -> list[Artifact]:
    """Scores of every job's trained student, made where missing from the student's saved weights.

    Raises:
      FtcotError: a student has not been trained yet.
    """
    return [_evaluate_trained(place, job) for job in jobs]


def evaluate_params(place: Place, job: Job, step: int, params: Any) -> Artifact:
    """Scores of a job's student after `step` optimizer steps, asked with weights that are at hand."""
    recipe = job.spec.recipe
    data, template = place.task(recipe), get_template(recipe.template)

    def build(folder: epath.Path) -> dict[str, Any]:
        began = time.monotonic()
        with show_progress(f"evaluate {job.spec.name}") as update:
            scores = score_student(
                job.student, params, data, template, recipe.evaluate, lambda done, total: update(done, total, "")
            )
        seconds = time.monotonic() - began
        metadata = {
            "base_model": job.student.architecture,
            "dataset_key": data.task.key,
            "finetune_key": job.key,
            "train_key": job.key,
            "epoch": step // job.steps_per_epoch,
            "prediction_template": template.name,
        }
        write_completions(folder / PREDICTIONS, metadata, scores.completions)
        (folder / OUTCOMES).write_text(json.dumps(scores.outcomes))
        return scores.summary | {"seconds": round(seconds, 3)}

    with place.timed("evaluate"):
        return place.store.make("scores", score_inputs(job, step), build)


def find_scores(place: Place, job: Job, step: int) -> Artifact | None:
    """Scores of a job's student after `step` steps, if they are there."""
    return place.store.find("scores", score_inputs(job, step))


def read_outcomes(scores: Artifact) -> list[bool]:
    """Whether each question was answered right, in the order asked."""
    outcomes: list[bool] = json.loads((scores.path / OUTCOMES).read_text())
    return outcomes


def score_inputs(job: Job, step: int) -> dict[str, Any]:
    """What decides a student's scores, as JSON values."""
    settings = job.spec.recipe.evaluate
    return {
        "student": job.key,
        "step": step,
        "template": dataclasses.asdict(get_template(job.spec.recipe.template)),
        "questions": settings.questions,
        "max_length": settings.max_length,
    }


def _evaluate_trained(place: Place, job: Job) -> Artifact:
    scores = find_scores(place, job, job.steps)
    if scores is not None:
        place.say(f"evaluate: reusing {scores.path} ({job.spec.name})")
        return scores
    trained = find_student(place, job)
    if trained is None:
        raise FtcotError(f"'{job.spec.name}' has not been trained yet; run `ftcot train` with the same recipe first")
    saved = load_student(
        StudentSettings(checkpoint=str(Path(trained.path / "student")), dtype=job.spec.recipe.student.dtype)
    )
    return evaluate_params(place, job, job.steps, saved.load())
