"""Scoring students: one artefact a student and step, with its predictions in the authors' format."""

from __future__ import annotations

import contextlib
import functools
import json
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
from etils import epath

from ftcot_jax.artifacts import Artifact
from ftcot_jax.evaluation.asking import Part, questions_of
from ftcot_jax.evaluation.score_student import Due, Scores, score_student, score_students
from ftcot_jax.progress import show_progress
from ftcot_jax.stages.place import Place
from ftcot_jax.stages.trials import Job, last_step, score_inputs
from ftcot_jax.tasks.templates import reference_name
from ftcot_jax.teacher.completion import write_completions

OUTCOMES = "outcomes.json"
PREDICTIONS = "predictions.json"


class Seated(NamedTuple):
    """A job whose student is to be scored after `step` optimizer steps, and the slot it sits in."""

    slot: int
    job: Job
    step: int


def evaluate_params(place: Place, job: Job, step: int, params: Any, part: Part = "test") -> Artifact:
    """Scores of a job's student after `step` optimizer steps, asked with weights that are at hand."""

    def build(folder: epath.Path) -> dict[str, Any]:
        began, due = time.monotonic(), _due(place, job, step, part)
        with show_progress(f"evaluate {job.spec.name}") as update:
            scores = score_student(
                job.student,
                params,
                due.task,
                due.questions,
                due.ask,
                due.settings,
                lambda done, total: update(done, total, ""),
                epochs=due.epochs,
            )
        return _write(folder, job, step, due, scores, time.monotonic() - began)

    with place.timed("evaluate"):
        return place.store.make("scores", score_inputs(place, job, step, part), build)


def _due(place: Place, job: Job, step: int, part: Part) -> Due:
    recipe = job.spec.recipe
    data, asking = place.task(recipe), place.asking(recipe)
    questions = questions_of(data, part, recipe.evaluate.questions, asking.shown)
    return Due(data.task, questions, asking, recipe.evaluate, job.epochs_at(step))


def _write(folder: epath.Path, job: Job, step: int, due: Due, scores: Scores, seconds: float) -> dict[str, Any]:
    """Fills a score artefact and returns its summary."""
    metadata = {
        "base_model": job.student.architecture,
        "dataset_key": due.task.key,
        "finetune_key": job.key if job.trains else None,
        "train_key": job.key if job.trains else None,
        "epoch": int(job.epochs_at(step)) if job.trains else None,
        "prediction_template": reference_name(due.ask.template.name),
    }
    write_completions(folder / PREDICTIONS, metadata, scores.completions)
    (folder / OUTCOMES).write_text(json.dumps(scores.outcomes), encoding="utf-8")
    return scores.summary | {"seconds": round(seconds, 3), "device": devices()}


def evaluate_slots(place: Place, seated: Sequence[Seated], params_S: Any, frozen: Any, part: Part) -> None:
    """Scores students side by side in their slots, those whose scores are not there yet.

    All processes of the place call it, so that the devices of all are used; process 0 writes.

    Args:
      place: where.
      seated: whom.
      params_S: the weights of all slots, every leaf with the slot axis first, on whatever devices they are.
      frozen: params that all slots share, where `params_S` holds adapters alone.
      part: of the split, whose questions are asked.
    """
    with place.timed("evaluate"):
        missing = [
            number
            for number, (_, job, step) in enumerate(seated if place.processes.lead else ())
            if find_scores(place, job, step, part) is None
        ]
        wanted = [seated[number] for number in place.processes.decide(f"{part} scores", missing)]
        alike: dict[int, list[Seated]] = {}
        for one in wanted:  # of one architecture all, but perhaps not of one tokenizer
            alike.setdefault(id(one.job.student), []).append(one)
        for several in alike.values():
            _evaluate_alike(place, several, params_S, frozen, part)


def _evaluate_alike(place: Place, several: Sequence[Seated], params_S: Any, frozen: Any, part: Part) -> None:
    due_S: list[Due | None] = [None] * len(jax.tree.leaves(params_S)[0])
    for slot, job, step in several:
        due_S[slot] = _due(place, job, step, part)
    began, names = time.monotonic(), several[0].job.spec.name
    if len(several) > 1:
        names += f" and {len(several) - 1} more"
    with show_progress(f"evaluate {names}") if place.processes.lead else contextlib.nullcontext() as update:
        tell = None if update is None else lambda done, total: update(done, total, "")
        scores_S = score_students(several[0].job.student, params_S, due_S, tell, frozen)
    share = (time.monotonic() - began) / len(several)
    for slot, job, step in several if place.processes.lead else ():
        due, scores = due_S[slot], scores_S[slot]
        assert due is not None and scores is not None  # noqa: PT018 (one fact: it was asked)
        write = functools.partial(_write, job=job, step=step, due=due, scores=scores, seconds=share)
        place.store.make("scores", score_inputs(place, job, step, part), write)


def devices() -> str:
    """What jax sees, as results name it: how many of which kind."""
    return f"{jax.device_count()} x {jax.devices()[0].device_kind}"


def find_scores(place: Place, job: Job, step: int, part: Part = "test") -> Artifact | None:
    """Scores of a job's student after `step` steps, if they are there."""
    return place.store.find("scores", score_inputs(place, job, step, part))


def evaluate_looks(place: Place, seated: Sequence[Seated], params_S: Any, frozen: Any) -> None:
    """Scores students on the way, or at their end, as far as each recipe's selection of an epoch needs it.

    When the best epoch on validation is sought, the test questions are asked only of an epoch that is the best so
    far: what is reported was never chosen by the test set. Arguments as of `evaluate_slots`.
    """
    validated = [one for one in seated if one.job.spec.recipe.evaluate.selection == "best_on_validation"]
    if validated:
        evaluate_slots(place, validated, params_S, frozen, "validation")
    asked = [
        number for number, (_, job, step) in enumerate(seated) if place.processes.lead and asks_test(place, job, step)
    ]
    asked = place.processes.decide("whom to ask test questions", asked)
    evaluate_slots(place, [seated[number] for number in asked], params_S, frozen, "test")


def asks_test(place: Place, job: Job, step: int) -> bool:
    """Whether test questions are to be asked after `step` steps, those of validation having been."""
    validated = job.spec.recipe.evaluate.selection == "best_on_validation"
    return not validated or step == 0 or best_step(place, job, step) == step


def selected_step(place: Place, job: Job) -> int | None:
    """The step whose student is reported: the last, or the first of the best; None while scores are missing."""
    if job.spec.recipe.evaluate.selection == "last" or not job.trains:
        return job.steps
    return None if unscored_steps(place, job) else best_step(place, job, last_step(place, job))


def unscored_steps(place: Place, job: Job) -> set[int]:
    """Steps whose scores a selected epoch needs and that are not there."""
    last = last_step(place, job)
    return {step for step in {*job.looks, last} if 0 < step <= last} - set(_scored(place, job, last))


def best_step(place: Place, job: Job, until: int) -> int | None:
    """The first of the best steps up to `until` by the scores there are; None if there are none."""
    scored = _scored(place, job, until)
    return max(scored, key=lambda step: (scored[step], -step), default=None)


def has_lost_patience(place: Place, job: Job, step: int) -> bool:
    """Whether training is to be stopped after `step` steps: too many looks have passed since the best.

    It follows from the trial's own scores up to there, so it is the same beside any others and after any kill.
    """
    patience = job.spec.recipe.evaluate.patience
    if patience is None or step == 0:
        return False
    best = best_step(place, job, step)
    assert best is not None  # the look at hand has been scored
    return sum(best < look <= step for look in job.looks) >= patience


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
