"""A trial's condition, from its recipe: what a report compares."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from ftcot_jax.config import Recipe
from ftcot_jax.rationales.select import question_subset
from ftcot_jax.stages.place import Place
from ftcot_jax.stages.teachers import Teacher
from ftcot_jax.sweeps.conditions import Condition, size_text
from ftcot_jax.tasks.templates import Template, get_template

# Named by the condition itself, or no part of what is compared.
_ELSEWHERE = re.compile(
    r"^(name|out|sweep|task\.key|task\.mirror|select\.(diversity|max_questions|question_share))\b|(^|\.)seed$"
    r"|^teacher\.(import|endpoint|source|model|loopback|diversity|key_env|budget|batch|concurrency)\b"
)
_ASKING = {"zs": "Zero-shot", "zs_cot": "Zero-shot-CoT", "fs_cot": "Few-shot-CoT"}
_OPENAI_SIZES = {"ada": 300_000_000, "babbage": 1_300_000_000, "curie": 6_700_000_000}  # as the paper gives them


def condition_of(place: Place, recipe: Recipe, teacher: Teacher | None) -> Condition:
    """What a trial is, apart from its seed.

    Args:
      place: the run's folder; only what the recipe names is read.
      recipe: of the trial, its seeds filled in.
      teacher: who wrote its rationales; None where there are none.
    """
    template, data = get_template(recipe.template), place.task(recipe)
    student, family, parameters = _student(place, recipe)
    diversity = None if teacher is None else recipe.select.diversity or teacher.diversity
    questions = len(question_subset(data.split.train, recipe.select)) if template.trains else None
    return Condition(
        task=data.task.key,
        method=_method(template, diversity),
        student=student,
        family=family,
        parameters=parameters,
        teacher=None if teacher is None else teacher.name,
        diversity=diversity,
        subset=_subset(recipe) if template.trains else None,
        train_questions=questions,
        settings=dict(_flat(recipe.model_dump(mode="json", by_alias=True))),
    )


def _method(template: Template, diversity: int | None) -> str:
    """The paper's name of it; of a template of one's own, that of its kind."""
    if not template.trains:
        return _ASKING.get(template.name, template.name)
    if not template.has_rationale:
        return "Fine-tune"
    return "Fine-tune-CoT" if diversity == 1 else "Diverse reasoning"


def _subset(recipe: Recipe) -> str | None:
    if recipe.select.max_questions is not None:
        return f"{recipe.select.max_questions} questions"
    if recipe.select.question_share is not None:
        return f"{100 * recipe.select.question_share:g}% of the questions"
    return None


def _student(place: Place, recipe: Recipe) -> tuple[str, str, int | None]:
    """Name, family and number of parameters."""
    if recipe.api_student is not None:
        model = recipe.api_student.model
        size = _OPENAI_SIZES.get(model)
        return model, "GPT-3" if size else "API", size
    settings = recipe.own_student
    plain = settings.model_copy(update={"lora": None})
    student = place.student(recipe.model_copy(update={"student": plain}))
    parameters = sum(math.prod(shape.shape) for shape in student.shapes_by_path.values())
    if settings.checkpoint is None:
        return f"{student.config.model_type} from scratch, {size_text(parameters)}", student.family, parameters
    name = PurePosixPath(settings.checkpoint).name or settings.checkpoint
    return name, "Flan-T5" if "flan" in name.lower() else student.family, parameters


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Settings by dotted key; a list is one value."""
    found: list[tuple[str, Any]] = []
    for name, value in values.items():
        key = f"{prefix}{name}"
        if _ELSEWHERE.search(key):
            continue
        found += _flat(value, f"{key}.") if isinstance(value, dict) and value else [(key, value)]
    return found
