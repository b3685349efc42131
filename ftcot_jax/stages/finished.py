"""What of a grid is finished, without making anything: a report or a study of a run that may still be going on."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from etils import epath

from ftcot_jax.artifacts import NotMade
from ftcot_jax.config import Recipe, TrialRecipe, load_recipe
from ftcot_jax.remote_folder import is_remote
from ftcot_jax.stages.api_student import ApiJob, distinct_api, prepare_one_api
from ftcot_jax.stages.grid import Grid
from ftcot_jax.stages.place import run_folder
from ftcot_jax.stages.plan_facts import LookingPlace
from ftcot_jax.stages.trials import Job, distinct, prepare_one

_RECIPES = (".yaml", ".yml")


@dataclasses.dataclass(frozen=True)
class Saved:
    """A recipe with its trials, and the folder they run in."""

    recipe: Recipe
    specs: list[TrialRecipe]
    place: LookingPlace


def open_saved(source: str, overrides: Sequence[str], say: Callable[[str], None]) -> list[Saved]:
    """The recipe that is named, or those that runs saved in the folder that is named; none if it holds none.

    Raises:
      UsageError: there is no such recipe, or an override does not fit.
    """
    path = epath.Path(source)
    if path.suffix in _RECIPES:
        return [_open(source, overrides, say)]
    if not path.is_dir():
        return []
    files = sorted(file for file in path.iterdir() if file.suffix in _RECIPES)
    return [_open(os.fspath(file), [*overrides, f"out={source}"], say) for file in files]


def _open(file: str, overrides: Sequence[str], say: Callable[[str], None]) -> Saved:
    path = epath.Path(file)
    if not is_remote(path):
        recipe, specs = load_recipe(file, overrides)
    else:
        with tempfile.TemporaryDirectory() as folder:  # a saved recipe is whole: it is based on no other file
            local = Path(folder) / path.name
            local.write_bytes(path.read_bytes())
            recipe, specs = load_recipe(str(local), overrides)
    return Saved(recipe, specs, LookingPlace(run_folder(recipe), say))


def finished_grid(place: LookingPlace, specs: Sequence[TrialRecipe]) -> tuple[Grid, list[TrialRecipe]]:
    """The trials whose records and pairs are there, and the others, which cannot have a student yet.

    Raises:
      FtcotError: an artefact is damaged, or two trials come to the same thing.
    """
    jobs: list[Job] = []
    api_jobs: list[ApiJob] = []
    waiting: list[TrialRecipe] = []
    for spec in specs:
        try:
            if spec.recipe.api_student is None:
                jobs.append(prepare_one(place, spec))
            else:
                api_jobs.append(prepare_one_api(place, spec))
        except NotMade:
            waiting.append(spec)
    return Grid(distinct(place, jobs), distinct_api(place, api_jobs)), waiting
