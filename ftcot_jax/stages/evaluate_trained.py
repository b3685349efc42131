"""The evaluate stage: scores of every trial's reported student, made where missing from its saved weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ftcot_jax.artifacts import Artifact
from ftcot_jax.stages.evaluate import asks_test, evaluate_params, find_scores, selected_step, unscored_steps
from ftcot_jax.stages.kept import selected_student
from ftcot_jax.stages.place import Place
from ftcot_jax.stages.trials import Job, find_student, last_step
from ftcot_jax.students.load import load_student
from ftcot_jax.students.settings import StudentSettings


def evaluate(place: Place, jobs: Sequence[Job]) -> list[Artifact]:
    """Scores of every job's student: trained, or as it is where its template only asks.

    Raises:
      FtcotError: a student has not been trained yet, or the weights of the epoch to score were not kept.
    """
    found: list[Artifact] = []
    loaded: tuple[str, Any] = ("", None)
    for job in jobs:
        if job.trains:
            found.append(_evaluate_trained(place, job))
        elif (scores := find_scores(place, job, 0)) is not None:
            place.say(f"evaluate: reusing {scores.path} ({job.spec.name})")
            found.append(scores)
        else:
            if loaded[0] != job.key:  # arms that ask one student in different ways load it once
                loaded = (job.key, job.initial_params())
            found.append(evaluate_params(place, job, 0, loaded[1]))
    return found


def _evaluate_trained(place: Place, job: Job) -> Artifact:
    student, last = find_student(place, job), last_step(place, job)
    selection = job.spec.recipe.evaluate.selection
    if selection != "last" and student is not None and unscored_steps(place, job) == {last}:
        params = _load(job, student)  # trained without this selection, and no step but the last needs scores
        if selection == "best_on_validation":
            evaluate_params(place, job, last, params, "validation")
        if asks_test(place, job, last):
            evaluate_params(place, job, last, params)
    step = selected_step(place, job)
    scores = None if step is None else find_scores(place, job, step)
    if scores is not None:
        place.say(f"evaluate: reusing {scores.path} ({job.spec.name})")
        return scores
    kept = selected_student(place, job)
    assert step is not None  # or there is no selected student
    return evaluate_params(place, job, step, _load(job, kept))


def _load(job: Job, kept: Artifact) -> Any:
    student = load_student(
        StudentSettings(checkpoint=str(kept.on_disk("student")), dtype=job.spec.recipe.own_student.dtype)
    )
    return student.load()
