"""The weights a trial leaves behind: its last, and its best epoch's where one is selected.

The best ones so far are an artefact of their own, made right after the look that found them best; the ones they
supersede are removed after that, and all of them if the last weights turn out best. So whenever training is killed,
the best so far are there, and once it has ended nothing is there that the report does not speak of.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from etils import epath

from ftcot_jax.artifacts import Artifact
from ftcot_jax.errors import FtcotError
from ftcot_jax.stages.evaluate import best_step, evaluate_look, selected_step
from ftcot_jax.stages.place import Place
from ftcot_jax.stages.trials import Job, find_student
from ftcot_jax.students.lora import save_adapter
from ftcot_jax.students.save import save_student


def write_student(job: Job, params: Any, folder: epath.Path) -> None:
    """Writes a student's weights into an artefact: merged, and its adapters too if it has any."""
    save_student(job.student, params, Path(folder / "student"))
    if job.student.compute.lora is not None:
        save_adapter(job.student, params, Path(folder / "adapter"), str(job.spec.recipe.own_student.checkpoint))


def look_and_keep(place: Place, job: Job, step: int, params: Any) -> None:
    """Scores a student on the way or at its end; keeps its weights if they are the best so far and not the last."""
    evaluate_look(place, job, step, params)
    if job.spec.recipe.evaluate.selection == "last" or step == 0:
        return
    best = best_step(place, job, step)
    if best == step < job.steps:

        def build(folder: epath.Path) -> dict[str, Any]:
            write_student(job, params, folder)
            return {"epoch": round(job.data.epochs_at(step), 3)}

        place.store.make("best", _inputs(job, step), build)
    for look in job.looks - {best}:
        superseded = place.store.find("best", _inputs(job, look))
        if superseded is not None:
            place.store.remove(superseded)


def selected_student(place: Place, job: Job) -> Artifact:
    """The student that is reported: the last, or the best epoch's.

    Raises:
      FtcotError: it has not been trained yet, or not with scores at every epoch, or its weights were not kept.
    """
    last = find_student(place, job)
    if last is None:
        raise FtcotError(f"'{job.spec.name}' has not been trained yet; run `ftcot train` with the same recipe first")
    step, selection = selected_step(place, job), job.spec.recipe.evaluate.selection
    if step is None:
        raise FtcotError(
            f"'{job.spec.name}' was trained without evaluate.selection={selection}, so its epochs were not all scored: "
            f"delete {last.path} to train it again, or set evaluate.selection=last"
        )
    if step == job.steps:
        return last
    best = place.store.find("best", _inputs(job, step))
    if best is None:
        raise FtcotError(
            f"'{job.spec.name}': the weights of its best epoch, {job.data.epochs_at(step):g}, are not there any more: "
            f"delete {last.path} to train it again, or set evaluate.selection=last"
        )
    return best


def _inputs(job: Job, step: int) -> dict[str, Any]:
    return {"student": job.key, "step": step}
