"""The evaluate stage: scores of every trial's reported student, made where missing from its saved weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ftcot_jax.artifacts import Artifact
from ftcot_jax.stages.evaluate import evaluate_params, find_scores, selected_step, unscored_steps
from ftcot_jax.stages.kept import look_and_keep, selected_student
from ftcot_jax.stages.place import Place
from ftcot_jax.stages.trials import Job, find_student
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
    last = find_student(place, job)
    selected = job.spec.recipe.evaluate.selection != "last"
    if selected and last is not None and unscored_steps(place, job) == {job.steps}:
        look_and_keep(
            place, job, job.steps, _load(job, last)
        )  # killed between saving the last weights and scoring them
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
