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
from ftcot_jax.stages.evaluate import best_step, selected_step
from ftcot_jax.stages.place import Place
from ftcot_jax.stages.trials import Job, find_student, last_step
from ftcot_jax.students.lora import save_adapter
from ftcot_jax.students.save import save_student


def write_student(job: Job, params: Any, folder: epath.Path) -> None:
    """Writes a student's weights into an artefact: merged, and its adapters too if it has any."""
    save_student(job.student, params, Path(folder / "student"))
    if job.student.compute.lora is not None:
        save_adapter(job.student, params, Path(folder / "adapter"), str(job.spec.recipe.own_student.checkpoint))


def is_best_so_far(place: Place, job: Job, step: int) -> bool:
    """Whether a student on its way, scored, has the best weights so far of one whose epoch is selected."""
    selects = job.spec.recipe.evaluate.selection != "last"
    return selects and 0 < step < job.steps and best_step(place, job, step) == step


def keep_best(place: Place, job: Job, step: int, params: Any) -> None:
    """Keeps the best weights so far in place of those they supersede."""

    def build(folder: epath.Path) -> dict[str, Any]:
        write_student(job, params, folder)
        return {"epoch": round(job.data.epochs_at(step), 3)}

    place.store.make("best", _inputs(job, step), build)
    drop_superseded(place, job, step)


def drop_superseded(place: Place, job: Job, step: int) -> None:
    """Removes weights that were kept but are not the best of those scored up to `step`."""
    if job.spec.recipe.evaluate.selection == "last":
        return
    best = best_step(place, job, step)
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
    if step == last_step(place, job):
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
