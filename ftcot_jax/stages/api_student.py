"""Students fine-tuned and served by an API, as the paper's ada, babbage and curie: trained and scored at once."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from etils import epath

from ftcot_jax.artifacts import Artifact
from ftcot_jax.config import Recipe, TrialRecipe
from ftcot_jax.errors import UsageError
from ftcot_jax.evaluation.score_api_student import score_api_student
from ftcot_jax.evaluation.score_student import questions_of
from ftcot_jax.progress import show_progress
from ftcot_jax.rationales.select import select
from ftcot_jax.stages.data import pair_table
from ftcot_jax.stages.evaluate import OUTCOMES, PREDICTIONS
from ftcot_jax.stages.place import Place, digest
from ftcot_jax.students.api_student import fine_tune
from ftcot_jax.teacher.completion import write_completions


def api_student(place: Place, recipe: Recipe, specs: Sequence[TrialRecipe]) -> str:
    """Fine-tunes and scores every trial's student; what is done is not bought again.

    Raises:
      UsageError: the recipe has no api_student section.
      Preempted: a job goes on at the API; the same command collects it.
      FtcotError: the API refuses or fails.
    """
    if recipe.api_student is None:
        raise UsageError(f"{recipe.name}: its student is no API's; use `ftcot run`, or give an api_student: section")
    lines = ["| trial | model | training texts | correct | accuracy % | 95% interval |", "|---|---|---|---|---|---|"]
    for spec in specs:
        summary = _score(place, spec).manifest["summary"]
        low, high = summary["interval_95"]
        counts = f"{summary['examples']} | {summary['correct']} of {summary['questions']}"
        accuracy = f"{100 * summary['accuracy']:.1f} | {100 * low:.1f} - {100 * high:.1f}"
        lines.append(f"| {spec.name} | {summary['model']} | {counts} | {accuracy} |")
    return "\n".join(lines)


def _score(place: Place, spec: TrialRecipe) -> Artifact:
    recipe, settings = spec.recipe, spec.recipe.api_student
    assert settings is not None  # asked by the caller
    data, table = place.task(recipe), pair_table(place, recipe)
    pairs = [table.pairs[int(number)] for number in select(table, recipe.select).chosen]
    asking = place.asking(recipe)
    questions = questions_of(data, "test", recipe.evaluate.questions, asking.shown)
    identity = settings.model_dump(include={"endpoint", "model", "form", "epochs", "batch_size", "max_tokens", "seed"})
    inputs = {
        "student": identity | {"learning_rate_multiplier": settings.learning_rate_multiplier},
        "pairs": digest([dataclasses.asdict(pair) for pair in pairs]),
        "template": dataclasses.asdict(asking.template),
        "scoring": recipe.scoring,
        "asked": digest([question.sample_index for question in questions]),
    }
    folder = Path(place.folder / "api_students" / digest(inputs["student"], inputs["pairs"]))

    def build(made: epath.Path) -> dict[str, Any]:
        def say(line: str) -> None:
            place.say(f"{spec.name}: {line}")

        with show_progress(f"fine-tune {spec.name}") as update:
            tuned = fine_tune(
                settings,
                pairs,
                data.questions,
                recipe.template,
                folder,
                on_progress=lambda status: update(0, 1, status),
                say=say,
            )
        with show_progress(f"evaluate {spec.name}") as update:
            scores = score_api_student(
                settings,
                tuned.model,
                data.task,
                questions,
                recipe.template,
                folder,
                recipe.scoring,
                lambda done, total: update(done, total, ""),
            )
        metadata = {"base_model": settings.model, "dataset_key": data.task.key, "finetune_key": tuned.model}
        metadata["prediction_template"] = asking.template.name
        write_completions(Path(made / PREDICTIONS), metadata, scores.completions)
        (made / OUTCOMES).write_text(json.dumps(scores.outcomes), encoding="utf-8")
        return scores.summary | {"model": tuned.model, "examples": tuned.examples}

    return place.store.make("scores", inputs, build)
