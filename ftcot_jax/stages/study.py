"""``ftcot study``: what a run's students and its teacher wrote, or any completion files, as a page to read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from etils import epath

from ftcot_jax.artifacts import write_atomically
from ftcot_jax.errors import FtcotError, UsageError
from ftcot_jax.evaluation.study import Sheet, build_study
from ftcot_jax.progress import say
from ftcot_jax.stages.data import COMPLETIONS, collect_completions
from ftcot_jax.stages.evaluate import PREDICTIONS
from ftcot_jax.stages.finished import finished_grid, open_saved
from ftcot_jax.stages.grid import Grid
from ftcot_jax.stages.plan_facts import LookingPlace
from ftcot_jax.tasks.own_task import is_definition, read_own_task
from ftcot_jax.tasks.registry import get_task
from ftcot_jax.tasks.scoring import Scoring
from ftcot_jax.tasks.task import Task
from ftcot_jax.tasks.templates import get_template
from ftcot_jax.teacher.completion import CompletionFile, read_completions


def study(
    sources: Sequence[str], overrides: Sequence[str], to: Path, task: str | None, scoring: Scoring, most_texts: int
) -> str:
    """Writes the page and returns what is on it, in a few lines.

    Args:
      sources: recipes, folders of runs or of completion files, and completion files.
      overrides: of the recipes.
      to: the page.
      task: of files that do not name theirs.
      scoring: whose rules, for files; a recipe has its own.
      most_texts: beyond which whole questions are left out.

    Raises:
      UsageError: a source is none of these, or overrides are given and no recipe is.
      FtcotError: a file is no completion file, or nothing is finished.
    """
    sheets: list[Sheet] = []
    files: list[Path] = []
    for source in sources:
        recipes = open_saved(source, overrides, say)
        for recipe in recipes:
            grid, waiting = finished_grid(recipe.place, recipe.specs)
            found, trials = sheets_of(grid, recipe.place), len(grid) + len(waiting)
            finished = len(grid.scores(recipe.place))
            if finished < trials:
                say(f"study: {trials - finished} of {trials} trials are not finished yet")
            sheets += found
        if overrides and not recipes:
            raise UsageError(f"{source} is no recipe: there is nothing for '{overrides[0]}' to change")
        if not recipes:
            files += _files_of(Path(source))
    sheets += _of_files(files, task, scoring)
    if not any(sheet.completions for sheet in sheets):
        raise FtcotError(f"{', '.join(sources)}: no completions yet; run `ftcot run` first, or name completion files")
    title = ", ".join(dict.fromkeys(Path(source).stem or source for source in sources))
    made = build_study(title, sheets, most_texts)
    to.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(epath.Path(to), made.html)
    lines = [f"{to}: {made.texts} texts, {len(made.html) / 1e6:.1f} MB"]
    if made.left_out:
        lines.append(f"{made.left_out} texts are left out; --most-texts {made.texts + made.left_out} takes all")
    return "\n".join([*lines, *(f"  {name}: {count}" for name, count in made.categories.items())])


def _files_of(path: Path) -> list[Path]:
    if not path.exists():
        raise UsageError(f"{path}: there is no such recipe, folder or completion file")
    if path.is_file():
        return [path]
    found = sorted(path.rglob("*.json"))
    if not found:
        raise UsageError(f"{path}: no recipe and no completion file in this folder")
    return found


def sheets_of(grid: Grid, place: LookingPlace) -> list[Sheet]:
    """What each finished trial's student wrote, and what their teachers did."""
    sheets = [
        Sheet(
            spec.name,
            place.task(spec.recipe).task,
            read_completions(scores.on_disk(PREDICTIONS)).completions,
            place.template(spec.recipe).answer_prefix,
            spec.recipe.scoring,
        )
        for spec, scores in grid.scores(place)
    ]
    teachers: dict[str, Sheet] = {}
    for spec in grid.specs:
        if spec.recipe.teacher is None or not get_template(spec.recipe.template).has_rationale:
            continue
        source = collect_completions(place, spec.recipe)
        if source.address not in teachers:
            file = read_completions(source.on_disk(COMPLETIONS))
            name = _unlike(f"teacher {file.metadata.get('base_model')}", [sheet.student for sheet in teachers.values()])
            task = place.task(spec.recipe).task
            teachers[source.address] = Sheet(name, task, file.completions, _prefix(file), spec.recipe.scoring)
    return [*sheets, *teachers.values()]


def _of_files(paths: Sequence[Path], task: str | None, scoring: Scoring) -> list[Sheet]:
    sheets: list[Sheet] = []
    for path in paths:
        file = read_completions(path)
        found = _task_of(path, file.metadata, task)
        same = [sheet.student for sheet in sheets if sheet.task.key == found.key]
        name = _unlike(_writer(path, file.metadata), same)
        sheets.append(Sheet(name, found, file.completions, _prefix(file), scoring))
    return sheets


def _task_of(path: Path, metadata: dict[str, Any], task: str | None) -> Task:
    key = task or metadata.get("dataset_key")
    if not isinstance(key, str):
        raise FtcotError(f"{path}: its metadata have no 'dataset_key'; say --task")
    if is_definition(key):
        return read_own_task(key).task
    try:
        return get_task(key)
    except UsageError as error:
        raise UsageError(f"{path}: {error}; --task names another, or the YAML file that defines it") from error


def _writer(path: Path, metadata: dict[str, Any]) -> str:
    """Who wrote a file, by what its metadata say."""
    parts = [metadata.get(name) for name in ("base_model", "completion_key", "train_key")]
    epoch = metadata.get("epoch")
    named = [str(part) for part in parts if part] + ([] if epoch is None else [f"epoch {epoch}"])
    return " ".join(named) or path.stem


def _unlike(name: str, taken: Sequence[str]) -> str:
    """The name, with a number where it is taken."""
    number = 2
    unlike = name
    while unlike in taken:
        unlike, number = f"{name} ({number})", number + 1
    return unlike


def _prefix(file: CompletionFile) -> str | None:
    return get_template(file.metadata.get("prediction_template") or "zs_cot").answer_prefix
