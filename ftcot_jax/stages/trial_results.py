"""Finished trials as the report sees them, and the others by name."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

from etils import epath

from ftcot_jax.artifacts import Artifact
from ftcot_jax.config import TrialRecipe
from ftcot_jax.errors import FtcotError
from ftcot_jax.evaluation.asking import Part
from ftcot_jax.stages.api_student import ApiJob, find_api_scores
from ftcot_jax.stages.conditions import condition_of
from ftcot_jax.stages.evaluate import PREDICTIONS, find_scores, read_outcomes, selected_step
from ftcot_jax.stages.finished import Saved, finished_grid
from ftcot_jax.stages.place import Place, digest
from ftcot_jax.stages.teachers import Teachers
from ftcot_jax.stages.trials import Job, find_student
from ftcot_jax.sweeps.conditions import Condition
from ftcot_jax.sweeps.cost import Cost
from ftcot_jax.sweeps.devices import listed_price
from ftcot_jax.sweeps.results import TrialResult
from ftcot_jax.teacher.completion import read_completions


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a sweep is.

    Attributes:
      results: of the finished trials, in grid order.
      planned: the condition of every trial, finished or not.
      missing: names of the others.
      failed: why those of the missing that failed did.
    """

    results: list[TrialResult]
    planned: list[Condition]
    missing: list[str]
    failed: dict[str, str]


def progress_of(saved: Saved, teachers: Teachers, price: float | None, prefix: str) -> Progress:
    """Looks a recipe's trials up; makes nothing.

    Args:
      saved: the recipe, its trials and their folder.
      teachers: collects those of the trials.
      price: US dollars a device and hour; None for those of the package's table.
      prefix: of the names of arms and trials, where recipes are reported together.
    """
    place, specs = saved.place, saved.specs
    grid, waiting = finished_grid(place, specs)
    order = {spec.name: number for number, spec in enumerate(specs)}
    found: dict[str, TrialResult | None] = dict.fromkeys((spec.name for spec in waiting), None)
    conditions: dict[str, Condition] = {}
    for spec in [*grid.specs, *waiting]:
        conditions[spec.name] = condition_of(place, spec.recipe, teachers.of(spec.recipe))
    for job in grid.jobs:
        found[job.spec.name] = _result(place, job, conditions[job.spec.name])
    for api_job in grid.api_jobs:
        found[api_job.spec.name] = _api_result(place, api_job, conditions[api_job.spec.name])
    names = sorted(found, key=lambda name: order[name])
    results = []
    for name in names:
        result = found[name]
        if result is not None:
            cost = _cost(result, teachers, saved.specs[order[name]], price)
            results.append(dataclasses.replace(result, cost=cost, name=prefix + result.name, arm=prefix + result.arm))
    missing = [name for name in names if found[name] is None]
    failed = {prefix + name: reason for name, reason in _failures(place.folder).items() if name in missing}
    return Progress(results, [conditions[name] for name in names], [prefix + name for name in missing], failed)


def _result(place: Place, job: Job, condition: Condition) -> TrialResult | None:
    trained, step = find_student(place, job), selected_step(place, job)
    scores = None if step is None else find_scores(place, job, step)
    if step is None or scores is None or (trained is None and job.trains):
        return None
    before = find_scores(place, job, 0) if job.trains else None
    result = _scored(job.spec, condition, scores)
    if not job.trains:
        return result
    return dataclasses.replace(
        result,
        training=None if trained is None else trained.manifest["summary"],
        before=None if before is None else before.manifest["summary"],
        selection=dataclasses.asdict(job.records.selection.report),
        chosen_by=job.spec.recipe.evaluate.selection,
        epoch=round(job.epochs_at(step), 3),
        looks=_looks(place, job),
    )


def _api_result(place: Place, job: ApiJob, condition: Condition) -> TrialResult | None:
    scores = find_api_scores(place, job)
    if scores is None:
        return None
    return dataclasses.replace(_scored(job.spec, condition, scores), selection=job.selection)


def _scored(spec: TrialRecipe, condition: Condition, scores: Artifact) -> TrialResult:
    """What is known of any scored student, however it came about."""
    return TrialResult(
        name=spec.name,
        arm=spec.arm,
        condition=condition,
        asked=_asked(scores),
        outcomes=read_outcomes(scores),
        training=None,
        scores=scores.manifest["summary"],
        before=None,
        selection=None,
        chosen_by="last",
        epoch=0.0,
        looks=[],
        cost=Cost(),
    )


def _asked(scores: Artifact) -> list[str]:
    """A digest of each question asked, in order; the same in trials whose split or seed gives it another index."""
    rows = read_completions(scores.on_disk(PREDICTIONS)).completions
    return list({row.sample_index: digest(row.question, row.answer) for row in rows}.values())


def _looks(place: Place, job: Job) -> list[tuple[float, float]]:
    """Accuracy after each epoch scored, on the questions that epochs are chosen by."""
    part: Part = "validation" if job.spec.recipe.evaluate.selection == "best_on_validation" else "test"
    found = []
    for step in sorted({*job.looks, job.steps}):
        scores = find_scores(place, job, step, part)
        if scores is not None:
            found.append((round(job.epochs_at(step), 2), float(scores.manifest["summary"]["accuracy"])))
    return found


def _cost(result: TrialResult, teachers: Teachers, spec: TrialRecipe, price: float | None) -> Cost:
    """Dollars of the teacher, and seconds of devices as far as the artefacts tell."""
    teacher, condition = teachers.of(spec.recipe), result.condition
    dollars: float | None = 0.0
    if teacher is not None:
        dollars = teachers.dollars(teacher, condition.diversity or 1, condition.train_questions or 0)
    if spec.recipe.api_student is not None:
        return Cost(dollars, estimated=teacher is not None and not teacher.bought and bool(dollars))
    training = result.training or {"device": result.scores.get("device"), "seconds": 0.0}
    count, _, kind = (training["device"] or "").partition(" x ")
    if not count.isdigit():
        return Cost(dollars, estimated=teacher is not None and not teacher.bought and bool(dollars))
    return Cost(
        teacher_dollars=dollars,
        estimated=teacher is not None and not teacher.bought and bool(dollars),
        train_chip_seconds=int(count) * training["seconds"] / training.get("slots", 1),
        score_chip_seconds=int(count) * result.scores["seconds"],
        chip_hour_dollars=listed_price(kind) if price is None else price,
    )


def _failures(folder: epath.Path) -> dict[str, str]:
    """Why trials failed, by name, as the sweep's workers noted it; the last attempt's reason."""
    notes = folder / "failed"
    if not notes.exists():
        return {}
    rows = []
    for path in notes.iterdir():
        if path.suffix == ".json" and not path.name.startswith("."):
            try:
                rows.append(json.loads(path.read_text(encoding="utf-8")))
            except json.JSONDecodeError as error:
                raise FtcotError(f"{path}: not JSON ({error}); delete it") from error
    rows.sort(key=lambda row: row["attempt"])
    return {str(row["name"]): str(row["reason"]) for row in rows}


def first_seeds(results: Sequence[TrialResult]) -> set[str]:
    """Names of one trial of each arm: what a reader looks at first."""
    return {result.name for result in {result.arm: result for result in reversed(results)}.values()}
