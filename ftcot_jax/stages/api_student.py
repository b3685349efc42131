"""Students at an API: fine-tuned there, as the paper's ada, babbage and curie, or asked as they are; and scored."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from etils import epath

from ftcot_jax.artifacts import Artifact
from ftcot_jax.config import Recipe, TrialRecipe
from ftcot_jax.errors import FtcotError, UsageError
from ftcot_jax.evaluation.asking import Asking, questions_of
from ftcot_jax.progress import show_progress
from ftcot_jax.rationales.pairs import Pair
from ftcot_jax.rationales.select import select
from ftcot_jax.stages.data import pair_table
from ftcot_jax.stages.evaluate import OUTCOMES, PREDICTIONS
from ftcot_jax.stages.place import Place, digest
from ftcot_jax.students.api_settings import ApiStudentSettings
from ftcot_jax.tasks.question import Question
from ftcot_jax.tasks.templates import reference_name
from ftcot_jax.teacher.completion import write_completions


@dataclasses.dataclass(frozen=True)
class ApiJob:
    """One trial whose student lives at an API.

    Attributes:
      spec: its recipe and names.
      settings: the API.
      asking, questions: how it is asked what.
      pairs: what it is fine-tuned on; None if its template only asks.
      selection: where the stored pairs went, in counts; None likewise.
    """

    spec: TrialRecipe
    settings: ApiStudentSettings
    asking: Asking
    questions: list[Question]
    pairs: list[Pair] | None
    selection: dict[str, int] | None

    @property
    def inputs(self) -> dict[str, Any]:
        """What decides its scores, as JSON values."""
        tuning = {"epochs", "batch_size", "seed"} if self.pairs is not None else set()
        identity = self.settings.model_dump(include={"endpoint", "model", "form", *tuning})
        if self.pairs is not None:
            identity["learning_rate_multiplier"] = self.settings.learning_rate_multiplier
        evaluate = self.spec.recipe.evaluate
        return {
            "student": identity,
            "pairs": None if self.pairs is None else digest([dataclasses.asdict(pair) for pair in self.pairs]),
            "template": dataclasses.asdict(self.asking.template),
            "scoring": self.spec.recipe.scoring,
            "asked": digest([dataclasses.astuple(question) for question in self.questions]),
            "max_tokens": evaluate.most_new_tokens(self.asking.template) or self.settings.max_tokens,
            "sampling": None if evaluate.sampling is None else evaluate.sampling.model_dump(),
        }


def prepare_api(place: Place, specs: Sequence[TrialRecipe]) -> list[ApiJob]:
    """The trials whose student lives at an API.

    Raises:
      FtcotError: two trials come to the same thing; or as curating does.
    """
    return distinct_api(place, [prepare_one_api(place, spec) for spec in specs])


def distinct_api(place: Place, jobs: Sequence[ApiJob]) -> list[ApiJob]:
    """An untrained student at an API is asked once, whatever the seed.

    Raises:
      FtcotError: two trials come to the same thing.
    """
    seen: dict[str, ApiJob] = {}
    for job in jobs:
        spec = job.spec
        same = seen.setdefault(digest(job.inputs), job)
        if same is job:
            continue
        if job.pairs is not None or spec.arm != same.spec.arm:
            raise FtcotError(f"sweep: '{same.spec.name}' and '{spec.name}' are the same trial; drop one of them")
        place.say(f"{spec.name}: untrained, so the same as '{same.spec.name}'; asked once")
    return list(seen.values())


def prepare_one_api(place: Place, spec: TrialRecipe) -> ApiJob:
    """One trial with its pairs, which are made if they are missing; raises as curating does."""
    recipe, settings = spec.recipe, spec.recipe.api_student
    if settings is None:
        raise UsageError(f"{spec.name}: its student is no API's; use `ftcot run`, or give an api_student: section")
    asking, data = place.asking(recipe), place.task(recipe)
    questions = questions_of(data, "test", recipe.evaluate.questions, asking.shown)
    if not asking.template.trains:
        return ApiJob(spec, settings, asking, questions, None, None)
    table = pair_table(place, recipe)
    chosen = select(table, recipe.select)
    pairs = list(table.texts(chosen.chosen))
    return ApiJob(spec, settings, asking, questions, pairs, dataclasses.asdict(chosen.report))


def api_student(place: Place, recipe: Recipe, specs: Sequence[TrialRecipe]) -> str:
    """Fine-tunes, where the template trains, and scores every trial's student; what is done is not bought again.

    Raises:
      UsageError: the recipe has no api_student section.
      Preempted: a job goes on at the API; the same command collects it.
      FtcotError: the API refuses or fails.
    """
    if recipe.api_student is None:
        raise UsageError(f"{recipe.name}: its student is no API's; use `ftcot run`, or give an api_student: section")
    lines = ["| trial | model | training texts | correct | accuracy % | 95% interval |", "|---|---|---|---|---|---|"]
    for job in prepare_api(place, specs):
        summary = score_api_job(place, job).manifest["summary"]
        low, high = summary["interval_95"]
        counts = f"{summary['examples']} | {summary['correct']} of {summary['texts']}"
        accuracy = f"{100 * summary['accuracy']:.1f} | {100 * low:.1f} - {100 * high:.1f}"
        lines.append(f"| {job.spec.name} | {summary['model']} | {counts} | {accuracy} |")
    return "\n".join(lines)


def find_api_scores(place: Place, job: ApiJob) -> Artifact | None:
    """A job's scores, if they are there."""
    return place.store.find("scores", job.inputs)


def score_api_job(place: Place, job: ApiJob) -> Artifact:
    """A job's scores, bought where missing."""
    from ftcot_jax.evaluation.score_api_student import score_api_student  # the API's package is slow to import

    settings, recipe, inputs = job.settings, job.spec.recipe, job.inputs
    data = place.task(recipe)
    folder = place.local / "api_students" / digest(inputs["student"], inputs["pairs"])

    def build(made: epath.Path) -> dict[str, Any]:
        place.keep_at_home("what an API trains and answers", "set out to a folder of this machine")
        model, examples = _model(place, job, folder)
        with show_progress(f"evaluate {job.spec.name}") as update:
            scores = score_api_student(
                settings,
                model,
                data.task,
                job.questions,
                job.asking,
                folder,
                recipe.evaluate,
                lambda done, total: update(done, total, ""),
            )
        metadata = {
            "base_model": settings.model,
            "dataset_key": data.task.key,
            "finetune_key": None if job.pairs is None else model,
            "prediction_template": reference_name(job.asking.template.name),
        }
        write_completions(Path(made / PREDICTIONS), metadata, scores.completions)
        (made / OUTCOMES).write_text(json.dumps(scores.outcomes), encoding="utf-8")
        return scores.summary | {"model": model, "examples": examples}

    with place.timed("evaluate"):
        return place.store.make("scores", inputs, build)


def _model(place: Place, job: ApiJob, folder: Path) -> tuple[str, int]:
    """The model to ask, fine-tuned if its template trains, and the number of its training texts."""
    if job.pairs is None:
        return job.settings.model, 0
    from ftcot_jax.students.api_student import fine_tune

    with show_progress(f"fine-tune {job.spec.name}") as update:
        tuned = fine_tune(
            job.settings,
            job.pairs,
            place.task(job.spec.recipe).questions,
            job.spec.recipe.template,
            folder,
            on_progress=lambda status: update(0, 1, status),
            say=lambda line: place.say(f"{job.spec.name}: {line}"),
        )
    return tuned.model, tuned.examples
