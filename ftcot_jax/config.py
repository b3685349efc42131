"""A recipe: one YAML file, dotted overrides, every key typed, every unknown key an error that names its neighbour."""

from __future__ import annotations

import collections
import copy
import json
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import pydantic
import yaml
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from ftcot_jax.errors import UsageError, nearest
from ftcot_jax.evaluation.settings import EvaluateSettings
from ftcot_jax.rationales.settings import SelectSettings
from ftcot_jax.recipe_file import assign, read_recipe
from ftcot_jax.records.tokenize import RecordSettings
from ftcot_jax.students.api_settings import ApiStudentSettings
from ftcot_jax.students.settings import StudentSettings
from ftcot_jax.sweeps.grid import Point, SweepSettings, expand
from ftcot_jax.tasks.scoring import Scoring
from ftcot_jax.tasks.settings import TaskSettings
from ftcot_jax.tasks.templates import OwnTemplate, get_template
from ftcot_jax.teacher.settings import TeacherSettings
from ftcot_jax.training.settings import MeshSettings, TrainSettings

# The tags start with a dash, so that they can be told from keys when an error is explained.
TemplateChoice = Annotated[
    Annotated[str, Tag("-name")] | Annotated[OwnTemplate, Tag("-own")],
    Discriminator(lambda given: "-name" if isinstance(given, str) else "-own"),
]


_OF_QUESTIONS = ("max_questions", "question_share", "subset_seed", "decontaminate")


class Recipe(BaseModel):
    """One experiment: from questions to scored students."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="Names the output folder and the report.")
    out: str | None = Field(None, description="Output folder; default: runs/NAME.")
    seed: int = Field(0, ge=0, description="Seed of every part that has none of its own.")
    task: TaskSettings
    teacher: TeacherSettings | None = Field(None, description="Needed unless the template uses no rationale.")
    select: SelectSettings = SelectSettings()
    template: TemplateChoice = Field(
        "ft_cot_token", description="Prompt and label form the student is trained and asked with: a name, or your own."
    )
    chat: bool = Field(False, description="Ask the student through its own chat template.")
    scoring: Scoring = Field(
        "paper", description="paper: the reference's rules, with what they get wrong; robust: what a reader would say."
    )
    student: StudentSettings | None = Field(None, description="A student of ours; exclusive with api_student.")
    api_student: ApiStudentSettings | None = Field(None, description="A student fine-tuned and served by an API.")
    records: RecordSettings = RecordSettings()
    train: TrainSettings = TrainSettings()
    mesh: MeshSettings = MeshSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    sweep: SweepSettings = SweepSettings()

    @model_validator(mode="after")
    def _one_student(self) -> Recipe:
        if (self.student is None) == (self.api_student is None):
            raise ValueError("give either student or api_student")
        return self

    @property
    def own_student(self) -> StudentSettings:
        """The student that runs here.

        Raises:
          UsageError: it is an API's.
        """
        if self.student is None:
            raise UsageError(f"{self.name}: its student lives at an API; use `ftcot api-student`")
        return self.student

    def as_yaml(self) -> str:
        """The whole recipe, as a file that `load_recipe` reads."""
        return yaml.safe_dump(self.model_dump(mode="json", by_alias=True), sort_keys=False, allow_unicode=True)

    @property
    def folder(self) -> str:
        return self.out or f"runs/{self.name}"


class TrialRecipe(BaseModel):
    """One point of a recipe's grid: `arm` names what is compared, `recipe` has every seed filled in.

    `overlay` is what the grid changed, by dotted recipe key.
    """

    model_config = ConfigDict(frozen=True)

    arm: str
    name: str
    recipe: Recipe
    overlay: dict[str, Any] = {}


def load_recipe(path: str, overrides: Sequence[str] = ()) -> tuple[Recipe, list[TrialRecipe]]:
    """Reads a recipe and expands its grid.

    Args:
      path: the YAML file.
      overrides: ``section.key=value`` texts; the value is YAML.

    Returns:
      The recipe as written (with overrides), and its trials in grid order; a recipe without a grid has one.

    Raises:
      UsageError: no such file, not YAML, an unknown key, a value of the wrong kind, an override that the grid undoes,
        or two trials that are the same.
    """
    raw, given = read_recipe(path), []
    for override in overrides:
        key, separator, value = override.partition("=")
        if not separator or not key:
            raise UsageError(f"override '{override}' is not of the form section.key=value")
        try:
            parsed = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UsageError(f"override '{override}': the value is not YAML ({_first_line(error)})") from error
        assign(raw, key, parsed, f"override '{override}'")
        given.append(key)
    recipe = _validate(raw, path)
    points = expand(recipe.sweep, path)
    _no_override_is_undone(given, points)
    trials = [_trial(raw, point, path) for point in points]
    names = collections.Counter(trial.name for trial in trials)
    twice = next((name for name, count in names.items() if count > 1), None)
    if twice is not None:
        raise UsageError(f"{path}: sweep: two trials are called '{twice}'; the axes repeat a value")
    first: dict[str, str] = {}
    for trial in trials:
        same = first.setdefault(_content(trial.recipe), trial.name)
        if same != trial.name:
            raise UsageError(
                f"{path}: sweep: '{same}' and '{trial.name}' are the same trial; sweep.exclude one of them"
            )
    return recipe, trials


def _no_override_is_undone(keys: Sequence[str], points: Sequence[Point]) -> None:
    for key in keys:
        # The recipe's own seed stays that of teachers who are paid for, whatever the axes do.
        if key != "seed" and all(key in point.overlay for point in points):
            raise UsageError(
                f"override '{key}' has no effect: the grid sets it in every trial; choose among its values by "
                f"sweep.only='{{KEY: VALUE}}', or give other sweep.axes"
            )


def _content(recipe: Recipe) -> str:
    """What decides a trial's result, as text; equal for trials that are the same."""
    values = recipe.model_dump(mode="json")
    if not get_template(recipe.template).has_rationale:
        del values["teacher"]
        values["select"] = {key: values["select"][key] for key in _OF_QUESTIONS}
    return json.dumps(values, sort_keys=True)


def _trial(raw: Mapping[str, Any], point: Point, path: str) -> TrialRecipe:
    overlaid = copy.deepcopy(dict(raw))
    overlaid["sweep"] = {}
    for key, value in point.overlay.items():
        assign(overlaid, key, value, f"{path}: sweep axis '{key}'", merge=True)
    recipe = _validate(overlaid, f"{path}: sweep point '{point.name}'")
    if recipe.teacher is not None:
        recipe = recipe.model_copy(update={"teacher": recipe.teacher.for_task(recipe.task.key)})
    return TrialRecipe(
        arm=point.arm or recipe.name,
        name=point.name or recipe.name,
        recipe=_with_seeds(recipe, raw.get("seed") or 0),
        overlay=point.overlay,
    )


def _with_seeds(recipe: Recipe, base_seed: int) -> Recipe:
    """Fills every seed left open with the recipe's own.

    A teacher that is paid for keeps the seed from before the grid: trials that differ in their seed share what was
    bought, as the paper's do. One of our own on loopback costs nothing and varies with the trial.
    """
    parts: dict[str, Any] = {}
    for part in ("task", "teacher", "train"):
        settings = getattr(recipe, part)
        if settings is not None and settings.seed is None:
            shared = part == "teacher" and settings.loopback is None
            parts[part] = settings.model_copy(update={"seed": base_seed if shared else recipe.seed})
    return recipe.model_copy(update=parts)


def _validate(raw: Mapping[str, Any], where: str) -> Recipe:
    try:
        return Recipe.model_validate(raw)
    except pydantic.ValidationError as error:
        raise UsageError("; ".join(_explain(raw, problem, where) for problem in error.errors()[:3])) from error


def _explain(raw: Mapping[str, Any], problem: Any, where: str) -> str:
    key = ".".join(str(part) for part in problem["loc"] if not str(part).startswith("-"))
    if problem["type"] == "extra_forbidden":
        return f"{where}: unknown key '{key}'{nearest(str(problem['loc'][-1]), _known_keys(problem['loc'][:-1]))}"
    if problem["type"] == "missing":
        return f"{where}: '{key}' is missing"
    message = re.sub(r"^Value error, ", "", problem["msg"])
    given = problem["input"]
    shown = f", got {given!r}" if isinstance(given, str | int | float | bool) else ""
    return f"{where}: {key or 'recipe'}: {message}{shown}"


def _known_keys(sections: Sequence[Any]) -> list[str]:
    """The keys a section may hold, following the models down."""
    model: Any = Recipe
    for section in sections:
        field = getattr(model, "model_fields", {}).get(section)
        if field is None:
            return []
        options = [field.annotation, *getattr(field.annotation, "__args__", ())]
        model = next((option for option in options if hasattr(option, "model_fields")), None)
    return [field.alias or name for name, field in getattr(model, "model_fields", {}).items()]


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
