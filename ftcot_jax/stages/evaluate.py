"""Scoring students: one artefact a student and step, with its predictions in the authors' format."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from etils import epath

from ftcot_jax.artifacts import Artifact
from ftcot_jax.errors import FtcotError
from ftcot_jax.evaluation.score_student import Part, questions_of, score_student
from ftcot_jax.progress import show_progress
from ftcot_jax.stages.place import Place, digest
from ftcot_jax.stages.trials import Job, find_student
from ftcot_jax.students.load import load_student
from ftcot_jax.students.settings import StudentSettings
from ftcot_jax.teacher.completion import write_completions

OUTCOMES = "outcomes.json"
PREDICTIONS = "predictions.json"


def evaluate(place: Place, jobs: Sequence[Job]) -> list[Artifact]:
    """Scores of every job's trained student, made where missing from the student's saved weights.

    Raises:
      FtcotError: a student has not been trained yet.
    """
    return [_evaluate_trained(place, job) for job in jobs]


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
            )
        seconds = time.monotonic() - began
        metadata = {
            "base_model": job.student.architecture,
            "dataset_key": data.task.key,
            "finetune_key": job.key,
            "train_key": job.key,
            "epoch": int(job.data.epochs_at(step)),
            "prediction_template": asking.template.name,
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
        accuracy = _accuracy(evaluate_params(place, job, step, params, "validation"))
        earlier = [find_scores(place, job, look, "validation") for look in sorted(job.looks) if 0 < look < step]
        if step > 0 and any(accuracy <= _accuracy(scores) for scores in earlier if scores is not None):
            return
    evaluate_params(place, job, step, params)


def selected_step(place: Place, job: Job) -> int | None:
    """The step whose student is reported: the last, or the first of the best; None while scores are missing."""
    selection = job.spec.recipe.evaluate.selection
    if selection == "last":
        return job.steps
    part: Part = "validation" if selection == "best_on_validation" else "test"
    steps = sorted({*job.looks, job.steps} - {0})
    scores = [find_scores(place, job, step, part) for step in steps]
    accuracies = [_accuracy(score) for score in scores if score is not None]
    if len(accuracies) < len(steps):
        return None
    return steps[accuracies.index(max(accuracies))]


def _accuracy(scores: Artifact) -> float:
    accuracy: float = scores.manifest["summary"]["accuracy"]
    return accuracy


def read_outcomes(scores: Artifact) -> list[bool]:
    """Whether each question was answered right, in the order asked."""
    outcomes: list[bool] = json.loads((scores.path / OUTCOMES).read_text(encoding="utf-8"))
    return outcomes


def score_inputs(place: Place, job: Job, step: int, part: Part) -> dict[str, Any]:
    """What decides a student's scores, as JSON values."""
    recipe = job.spec.recipe
    return {
        "student": job.key,
        "step": step,
        "template": dataclasses.asdict(place.template(recipe)),
        "scoring": recipe.scoring,
        "asked": digest(getattr(place.task(recipe).split, part)),
        "questions": recipe.evaluate.questions,
        "max_length": recipe.evaluate.max_length,
    }


def _evaluate_trained(place: Place, job: Job) -> Artifact:
    step = selected_step(place, job)
    scores = None if step is None else find_scores(place, job, step)
    if scores is not None:
        place.say(f"evaluate: reusing {scores.path} ({job.spec.name})")
        return scores
    trained = find_student(place, job)
    if trained is None:
        raise FtcotError(f"'{job.spec.name}' has not been trained yet; run `ftcot train` with the same recipe first")
    if job.spec.recipe.evaluate.selection != "last":
        raise FtcotError(
            f"'{job.spec.name}' was trained without scores at every epoch, and only its last weights are kept: delete "
            f"{trained.path} to train it again, or set evaluate.selection=last"
        )
    saved = load_student(
        StudentSettings(checkpoint=str(Path(trained.path / "student")), dtype=job.spec.recipe.own_student.dtype)
    )
    return evaluate_params(place, job, job.steps, saved.load())
