"""Scoring students: one artefact a student and step, with its predictions in the authors' format."""

from __future__ import annotations

import json
import time
from typing import Any

import jax
from etils import epath

from ftcot_jax.artifacts import Artifact
from ftcot_jax.evaluation.asking import Part, questions_of
from ftcot_jax.evaluation.score_student import score_student
from ftcot_jax.progress import show_progress
from ftcot_jax.stages.place import Place
from ftcot_jax.stages.trials import Job, score_inputs
from ftcot_jax.tasks.templates import reference_name
from ftcot_jax.teacher.completion import write_completions

OUTCOMES = "outcomes.json"
PREDICTIONS = "predictions.json"


def evaluate_params(place: Place, job: Job, step: int, params: Any, part: Part = "test") -> Artifact:
    """Scores of a job's student after `step` optimizer steps, asked with weights that are at hand."""
    recipe = job.spec.recipe
    data, asking = place.task(recipe), place.asking(recipe)

    def build(folder: epath.Path) -> dict[str, Any]:
        began = time.monotonic()
        questions = questions_of(data, part, recipe.evaluate.questions, asking.shown)
        with show_progress(f"evaluate {job.spec.name}") as update:
            scores = score_student(
                job.student,
                jax.device_put(params),  # of several processes' training they are in the host's memory
                data.task,
                questions,
                asking,
                recipe.evaluate,
                lambda done, total: update(done, total, ""),
                epochs=job.epochs_at(step),
            )
        seconds = time.monotonic() - began
        metadata = {
            "base_model": job.student.architecture,
            "dataset_key": data.task.key,
            "finetune_key": job.key if job.trains else None,
            "train_key": job.key if job.trains else None,
            "epoch": int(job.epochs_at(step)) if job.trains else None,
            "prediction_template": reference_name(asking.template.name),
        }
        write_completions(folder / PREDICTIONS, metadata, scores.completions)
        (folder / OUTCOMES).write_text(json.dumps(scores.outcomes), encoding="utf-8")
        return scores.summary | {"seconds": round(seconds, 3)}

    with place.timed("evaluate"):
        return place.store.make("scores", score_inputs(place, job, step, part), build)


def find_scores(place: Place, job: Job, step: int, part: Part = "test") -> Artifact | None:
    """Scores of a job's student after `step` steps, if they are there."""
    return place.store.find("scores", score_inputs(place, job, step, part))


def evaluate_look(place: Place, job: Job, step: int, params: Any) -> None:
    """Scores a student on the way, or at its end, as far as the recipe's selection of an epoch needs it.

    When the best epoch on validation is sought, the test questions are asked only of an epoch that is the best so
    far: what is reported was never chosen by the test set.
    """
    if job.spec.recipe.evaluate.selection == "best_on_validation":
        evaluate_params(place, job, step, params, "validation")
        if step > 0 and best_step(place, job, step) != step:
            return
    evaluate_params(place, job, step, params)


def selected_step(place: Place, job: Job) -> int | None:
    """The step whose student is reported: the last, or the first of the best; None while scores are missing."""
    if job.spec.recipe.evaluate.selection == "last" or not job.trains:
        return job.steps
    return None if unscored_steps(place, job) else best_step(place, job, job.steps)


def unscored_steps(place: Place, job: Job) -> set[int]:
    """Steps whose scores a selected epoch needs and that are not there."""
    return {*job.looks, job.steps} - {0} - set(_scored(place, job, job.steps))


def best_step(place: Place, job: Job, until: int) -> int | None:
    """The first of the best steps up to `until` by the scores there are; None if there are none."""
    scored = _scored(place, job, until)
    return max(scored, key=lambda step: (scored[step], -step), default=None)


def _scored(place: Place, job: Job, until: int) -> dict[int, float]:
    """Accuracies that a selected epoch is selected by, by step; the state before training is not one."""
    part: Part = "validation" if job.spec.recipe.evaluate.selection == "best_on_validation" else "test"
    steps = [step for step in {*job.looks, job.steps} if 0 < step <= until]
    found = {step: find_scores(place, job, step, part) for step in steps}
    return {step: _accuracy(scores) for step, scores in found.items() if scores is not None}


def _accuracy(scores: Artifact) -> float:
    accuracy: float = scores.manifest["summary"]["accuracy"]
    return accuracy


def read_outcomes(scores: Artifact) -> list[int]:
    """How many texts of each question are right, in the order asked."""
    outcomes: list[int] = json.loads(scores.on_disk(OUTCOMES).read_text(encoding="utf-8"))
    return outcomes
