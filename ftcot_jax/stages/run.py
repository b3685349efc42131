"""What each command does, stage by stage, with the run's full recipe saved beside its results."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
from etils import epath

import ftcot_jax
from ftcot_jax.artifacts import Artifact, write_atomically
from ftcot_jax.config import Recipe, TrialRecipe
from ftcot_jax.errors import FtcotError, UsageError
from ftcot_jax.progress import say
from ftcot_jax.rationales.select import Yield
from ftcot_jax.rationales.yield_report import YieldRow, plot_yield, yield_json, yield_markdown, yield_rows
from ftcot_jax.remote_folder import is_remote
from ftcot_jax.stages import data
from ftcot_jax.stages.api_student import ApiJob, api_student, find_api_scores, prepare_api, score_api_job
from ftcot_jax.stages.evaluate_trained import evaluate
from ftcot_jax.stages.finished import Saved
from ftcot_jax.stages.grid import Grid, here_and_at_apis, prepare_grid
from ftcot_jax.stages.place import Place, digest, run_folder
from ftcot_jax.stages.plan_facts import LookingPlace
from ftcot_jax.stages.report import PAGE, report
from ftcot_jax.stages.sweep_entries import entries
from ftcot_jax.stages.sweep_run import work
from ftcot_jax.stages.trials import Job, prepare
from ftcot_jax.sweeps.listing import write_listing
from ftcot_jax.sweeps.rows import RESULTS
from ftcot_jax.sweeps.shares import ALL, Share
from ftcot_jax.tasks.fetch import cache_folder
from ftcot_jax.tasks.templates import get_template
from ftcot_jax.training.processes import ALONE, Processes

Stage = Callable[[Recipe, Sequence[TrialRecipe]], str]


def perform(name: str, recipe: Recipe, specs: Sequence[TrialRecipe], processes: Processes, **options: Any) -> str:
    """Does a stage; returns what process 0 prints. Several processes train together, all else is process 0's.

    Raises:
      UsageError: another process does something else.
    """
    told = {key: str(value) for key, value in options.items()}
    seen = processes.gather("start", digest(ftcot_jax.__version__, name, recipe.model_dump(mode="json"), told))
    other = next((number for number, what in enumerate(seen) if what != seen[0]), None)
    if other is not None:
        raise UsageError(
            f"process {other} was started with another command, recipe or version of ftcot than process 0; start all "
            "of them alike"
        )
    if name in TOGETHER:
        text = TOGETHER[name](recipe, specs, processes, **options)
    else:
        text = STAGES[name](recipe, specs) if processes.lead else ""
    processes.leave()
    return text if processes.lead else ""


def _open(recipe: Recipe, processes: Processes = ALONE) -> Place:
    """Opens the run's folder, saves the recipe there, and turns the compile cache on."""
    logging.getLogger("absl").setLevel(logging.ERROR)
    folder = run_folder(recipe)
    if processes.lead:
        if not is_remote(folder):
            folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / f"{recipe.name}.yaml", recipe.as_yaml())
    _keep_programs()
    return Place(folder, say if processes.lead else lambda line: None, processes)


def _keep_programs() -> None:
    """Turns the cache of compiled programs on: the user's own, so that runs share it, whatever their folders.

    jax's own variables go before it: which folder, and how long a program must have taken to be worth keeping.
    """
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", os.fspath(cache_folder() / "compiled"))
    if not os.environ.get("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    jax.config.update("jax_compilation_cache_max_size", 4 * 2**30)


def _sample(recipe: Recipe, specs: Sequence[TrialRecipe]) -> str:
    place = _open(recipe)
    wanted = [spec.recipe for spec in specs if get_template(spec.recipe.template).has_rationale]
    made = {artifact.name: artifact for artifact in (data.collect_completions(place, one) for one in wanted)}
    return "\n".join(f"{artifact.path}: {artifact.manifest['summary']}" for artifact in made.values())


def _dry_run(recipe: Recipe, specs: Sequence[TrialRecipe]) -> str:
    place = Place(run_folder(recipe), say)
    wanted = [spec.recipe for spec in specs if get_template(spec.recipe.template).has_rationale]
    return data.estimate_sampling(place, wanted)


def _curate(recipe: Recipe, specs: Sequence[TrialRecipe]) -> str:
    place = _open(recipe)
    trained = [spec for spec in specs if get_template(spec.recipe.template).trains]
    if not trained:
        return yield_table([])
    made = {artifact.name: artifact for artifact in (data.curate(place, spec.recipe) for spec in trained)}
    lines = [f"{name}: {artifact.manifest['summary']}" for name, artifact in made.items()]
    rows = _yields(place, specs)
    if not rows:
        return "\n".join(lines)
    text = yield_markdown(rows)
    with place.writing("report") as folder:
        write_atomically(epath.Path(folder / "yield.md"), text)
        write_atomically(epath.Path(folder / "yield.json"), yield_json(rows))
        plot_yield(rows, folder / "yield")
    return "\n".join([*lines, "", text, f"report: {place.folder / 'report' / 'yield.md'}, .json, .svg and .png"])


def _yields(place: Place, specs: Sequence[TrialRecipe]) -> list[YieldRow]:
    """Rows of every selection that the trials make, their D and seed aside, each under its first trial's name."""
    widest: dict[str, TrialRecipe] = {}
    for spec in specs:
        if get_template(spec.recipe.template).has_rationale:
            select = spec.recipe.select.model_dump_json(exclude={"diversity"})
            key = f"{data.curate(place, spec.recipe).name} {select}"
            known = widest.setdefault(key, spec)
            if (spec.recipe.select.diversity or math.inf) > (known.recipe.select.diversity or math.inf):
                widest[key] = spec
    several = len({spec.recipe.task.key for spec in widest.values()}) < len(widest)
    rows = []
    for spec in widest.values():
        table = data.pair_table(place, spec.recipe)
        rows += yield_rows(spec.arm if several else table.data.task.key, table, spec.recipe.select)
    return rows


def _tokenize(recipe: Recipe, specs: Sequence[TrialRecipe]) -> str:
    place = _open(recipe)
    trained = [spec for spec in specs if get_template(spec.recipe.template).trains]
    return yield_table([(spec.name, data.trial_records(place, spec.recipe).selection.report) for spec in trained])


def _train(recipe: Recipe, specs: Sequence[TrialRecipe], processes: Processes = ALONE) -> str:
    place = _open(recipe, processes)
    trained = [job for job in _prepare(place, specs) if job.trains]
    _work(place, recipe, trained, [])
    return _times(place)


def _sweep(
    recipe: Recipe,
    specs: Sequence[TrialRecipe],
    processes: Processes = ALONE,
    share: Share = ALL,
    retry_failed: bool = False,
) -> str:
    place = _open(recipe, processes)
    here, at_apis = here_and_at_apis(specs)
    jobs = _prepare(place, here)
    api_jobs = prepare_api(place, at_apis) if processes.lead else []
    _work(place, recipe, jobs, api_jobs, share, retry_failed)
    return f"{_times(place)}\nall {len(jobs) + len(api_jobs)} trials are done: {place.folder / RESULTS}"


def _work(
    place: Place,
    recipe: Recipe,
    jobs: Sequence[Job],
    api_jobs: Sequence[ApiJob],
    share: Share = ALL,
    retry_failed: bool = False,
) -> None:
    found = entries(place, jobs, api_jobs)
    if place.processes.lead:
        write_listing(place.folder, recipe.name, [entry.listing() for entry in found])
    work(place, found, share, recipe.sweep.lease_seconds, retry_failed)


def _evaluate(recipe: Recipe, specs: Sequence[TrialRecipe]) -> str:
    place = _open(recipe)
    grid = _grid(place, specs)
    untuned = [job for job in grid.api_jobs if job.pairs is not None and find_api_scores(place, job) is None]
    if untuned:
        raise FtcotError(f"'{untuned[0].spec.name}' has not been fine-tuned and scored yet; run `ftcot run`")
    return "\n".join(_scores_line(*scored) for scored in _evaluate_all(place, grid))


def _evaluate_all(place: Place, grid: Grid) -> list[tuple[TrialRecipe, Artifact]]:
    """Each trial's scores, made where missing."""
    own = zip((job.spec for job in grid.jobs), evaluate(place, grid.jobs), strict=True)
    return [*own, *((job.spec, score_api_job(place, job)) for job in grid.api_jobs)]


def _scores_line(spec: TrialRecipe, scores: Artifact) -> str:
    summary = scores.manifest["summary"]
    low, high = summary["interval_95"]
    selection = spec.recipe.evaluate.selection
    trained = get_template(spec.recipe.template).trains
    chosen = f" [epoch: {selection}]" if trained and selection != "last" else ""
    more = f" in {summary['samples']} texts a question" if summary["samples"] > 1 else ""
    return (
        f"{spec.name}: {summary['correct']} of {summary['texts']} right{more}, "
        f"{100 * summary['accuracy']:.1f}% (95% {100 * low:.1f} - {100 * high:.1f}){chosen}; {scores.path}"
    )


def _run(recipe: Recipe, specs: Sequence[TrialRecipe], processes: Processes = ALONE) -> str:
    place = _open(recipe, processes)
    here, at_apis = here_and_at_apis(specs)
    jobs = _prepare(place, here)
    api_jobs = prepare_api(place, at_apis) if processes.lead else []
    _work(place, recipe, jobs, api_jobs)
    if not processes.lead:
        return ""
    with place.timed("report"):
        text = report([Saved(recipe, list(specs), LookingPlace(place.folder, place.say))])
    return f"{text}\n{_times(place)}\nreport: {place.folder / 'report' / PAGE}"


def _grid(place: Place, specs: Sequence[TrialRecipe]) -> Grid:
    grid = prepare_grid(place, specs)
    _tell_yields(grid.jobs)
    return grid


def _prepare(place: Place, specs: Sequence[TrialRecipe]) -> list[Job]:
    """Process 0 makes what is missing; the others find it."""
    if not place.processes.lead:
        place.processes.gather("prepared")
        return prepare(place, specs)
    jobs = prepare(place, specs)
    _tell_yields(jobs)
    place.processes.gather("prepared")
    return jobs


def _tell_yields(jobs: Sequence[Job]) -> None:
    rows = [(job.spec.name, job.records.selection.report) for job in jobs if job.trains]
    if rows:
        print(yield_table(rows), file=sys.stderr)


def yield_table(rows: Sequence[tuple[str, Yield]]) -> str:
    """Where each trial's stored pairs went, a line a trial; reasons that took nothing anywhere have no column."""
    if not rows:
        return "nothing is trained: every template of the recipe only asks"
    counts = [dataclasses.asdict(row) for _, row in rows]
    columns = [name for name in counts[0] if name not in ("pairs", "kept", "questions", "covered")]
    columns = [name for name in columns if any(row[name] for row in counts)]
    head = ["trial", "kept", *(name.replace("_", " ") for name in columns), "stored", "questions covered"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for (name, _), row in zip(rows, counts, strict=True):
        cells = [row["kept"], *(row[column] for column in columns), row["pairs"]]
        covered = f"{row['covered']} of {row['questions']}"
        lines.append("| " + " | ".join([name, *map(str, cells), covered]) + " |")
    return "\n".join(lines) + "\n"


def _times(place: Place) -> str:
    parts = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in place.seconds.items())
    line = f"seconds in each stage: {parts}"
    if total := sum(place.training.values()):
        shares = ", ".join(f"{part} {100 * seconds / total:.1f}%" for part, seconds in place.training.items())
        line += f"\nthe {total:.1f} s of the training loop: {shares}"
    return line


def _api_student(recipe: Recipe, specs: Sequence[TrialRecipe]) -> str:
    return api_student(_open(recipe), recipe, specs)


STAGES: dict[str, Stage] = {
    "api_student": _api_student,
    "run": _run,
    "sample": _sample,
    "dry_run": _dry_run,
    "curate": _curate,
    "tokenize": _tokenize,
    "train": _train,
    "evaluate": _evaluate,
}

TOGETHER: dict[str, Callable[..., str]] = {"run": _run, "train": _train, "sweep": _sweep}
