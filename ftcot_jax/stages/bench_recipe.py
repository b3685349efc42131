"""A recipe's trials brought to where a benchmark begins: records made or reused, nothing trained that stays."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import jax
from etils import epath
from jax.experimental.compilation_cache import compilation_cache

from ftcot_jax.artifacts import NotMade
from ftcot_jax.bench.timed_step import StepWork
from ftcot_jax.config import Recipe, TrialRecipe
from ftcot_jax.errors import FtcotError, UsageError, nearest
from ftcot_jax.progress import say
from ftcot_jax.stages.data import collect_completions
from ftcot_jax.stages.groups import program
from ftcot_jax.stages.place import Place, run_folder
from ftcot_jax.stages.plan_facts import LookingPlace
from ftcot_jax.stages.train import frozen_params, joined, train_group
from ftcot_jax.stages.trials import Job, prepare_one
from ftcot_jax.students.fused_attention import require_platform
from ftcot_jax.tasks.templates import get_template
from ftcot_jax.training.clock import PARTS, Part
from ftcot_jax.training.mesh import make_mesh
from ftcot_jax.training.settings import CheckpointSettings


@contextlib.contextmanager
def programs_from_anew() -> Iterator[None]:
    """Compiles all there is inside, each program once: the user's cache of them is left alone."""
    # jax.config's names are made at run time, so mypy knows none of them.
    folder_before: str | None = jax.config.jax_compilation_cache_dir  # type: ignore[attr-defined]
    seconds_before: float = jax.config.jax_persistent_cache_min_compile_time_secs  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory(prefix="ftcot-bench-", ignore_cleanup_errors=True) as folder:
        _keep_programs(folder, 0.0)
        try:
            yield
        finally:
            _keep_programs(folder_before, seconds_before)


def _keep_programs(folder: str | None, seconds: float) -> None:
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", seconds)
    compilation_cache.reset_cache()  # type: ignore[no-untyped-call]  # or it goes on with the folder it began with


def first_trial(recipe: Recipe, specs: Sequence[TrialRecipe], trial: str | None) -> int:
    """The number of the trial to time: the one that is named, or the first that trains here.

    Raises:
      UsageError: there is no such trial, or it takes no step here.
    """
    names = [spec.name for spec in specs]
    if trial is None:
        here = [number for number, spec in enumerate(specs) if _trains_here(spec)]
        if not here:
            raise UsageError(
                f"{recipe.name}: no trial of it trains here: its templates only ask, or an API trains them"
            )
        return here[0]
    if trial not in names:
        raise UsageError(f"--trial: {recipe.name} has no trial {trial!r}{nearest(trial, names)}")
    number = names.index(trial)
    if not _trains_here(specs[number]):
        raise UsageError(f"--trial {trial}: it takes no step here: its template only asks, or an API trains it")
    return number


def _trains_here(spec: TrialRecipe) -> bool:
    return spec.recipe.api_student is None and get_template(spec.recipe.template).trains


def jobs_from(recipe: Recipe, specs: Sequence[TrialRecipe], first: int, most: int) -> list[Job]:
    """Trial number `first` and others that share its program, from there on and round the grid, `most` at most.

    Raises:
      FtcotError: its completions are not bought yet.
    """
    place = Place(run_folder(recipe), say)
    jobs: list[Job] = []
    for spec in (*specs[first:], *specs[:first]):
        if len(jobs) >= most:
            break
        if not _trains_here(spec) or not _may_share(spec.recipe, specs[first].recipe):
            continue
        _refuse_to_buy(place, spec.recipe)
        job = prepare_one(place, spec)
        if not jobs or (_program(job) == _program(jobs[0]) and job.key not in {one.key for one in jobs}):
            jobs.append(job)
    return jobs


def _may_share(recipe: Recipe, other: Recipe) -> bool:
    """Whether it is worth a look: what tells programs apart without records is the same."""
    same = ("optimizer", "batch")
    return (recipe.own_student, recipe.mesh) == (other.own_student, other.mesh) and all(
        getattr(recipe.train, name) == getattr(other.train, name) for name in same
    )


def _program(job: Job) -> str:
    return program(job.spec.recipe.train, job.student, job.data.budget)


def _refuse_to_buy(place: Place, recipe: Recipe) -> None:
    teacher = recipe.teacher
    if not get_template(recipe.template).has_rationale or teacher is None:
        return
    if teacher.loopback is None and teacher.import_path is None:
        try:
            collect_completions(LookingPlace(place.folder, place.say), recipe)
        except NotMade as error:
            raise FtcotError(
                f"{recipe.name}: its completions are not in {place.folder} yet, and a benchmark buys nothing; "
                "run `ftcot sample` first"
            ) from error


def step_work(jobs: Sequence[Job]) -> StepWork:
    """What the pool of these jobs would train."""
    recipe = jobs[0].spec.recipe
    mesh = make_mesh(recipe.mesh)
    platform = mesh.devices.flat[0].platform
    student = jobs[0].student.on(platform)
    require_platform(student.compute.attention, platform, mesh.size)
    table, trials = joined(jobs)
    return StepWork(
        student,
        table,
        trials,
        mesh,
        frozen_params(student, mesh),
        max(job.spec.recipe.train.microbatches for job in jobs),
        recipe.train.batch.share_questions,
        recipe.train.input,
    )


def short_run(jobs: Sequence[Job], steps: int, questions: int) -> dict[Part, float]:
    """Trains the jobs in their pool for a few steps, with one checkpoint and one look at their end.

    All that it leaves is in a folder that is gone afterwards.

    Args:
      jobs: of one program.
      steps: of each, at least 2.
      questions: asked of each student at most.

    Returns:
      Wall seconds of the loop by what they went for.

    Raises:
      FtcotError: a loss became infinite.
    """
    short = [_shortened(job, steps, questions) for job in jobs]
    with tempfile.TemporaryDirectory(prefix="ftcot-bench-", ignore_cleanup_errors=True) as folder:
        place = Place(epath.Path(folder), _silent)
        train_group(place, short, short, "pool", _Alone())
        return {part: place.training.get(part, 0.0) for part in PARTS}


def _shortened(job: Job, steps: int, questions: int) -> Job:
    recipe = job.spec.recipe
    saved = CheckpointSettings(minutes=1e6, steps=max(1, steps - 1), keep=1)
    train = recipe.train.model_copy(
        update={"steps": steps, "epochs": None, "checkpoints": saved, "wandb": None, "profile_steps": None}
    )
    asked = min(questions, recipe.evaluate.questions or questions)
    looks: dict[str, Any] = {"before": False, "every_epochs": None, "selection": "last", "patience": None}
    evaluate = recipe.evaluate.model_copy(update=looks | {"questions": asked})
    shortened = recipe.model_copy(update={"train": train, "evaluate": evaluate})
    return dataclasses.replace(
        job, spec=job.spec.model_copy(update={"recipe": shortened}), inputs=job.inputs | {"steps": steps}
    )


class _Alone:
    """The only worker there is, of trials that nobody waits for."""

    def admits(self, key: str) -> bool:
        return True

    def lost(self) -> Collection[str]:
        return ()

    def left(self, key: str) -> None: ...

    def holds(self, key: str) -> bool:
        return True

    def progress(self, key: str, step: int) -> None: ...

    def ended(self, key: str) -> None: ...

    def failed(self, key: str, reason: str) -> None:
        raise FtcotError(f"{reason}; lower train.learning_rate for the benchmark too")


def _silent(line: str) -> None:
    """The benchmark says what it finds, and not what it makes on the way."""
