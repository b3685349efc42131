"""The ``ftcot data`` commands: tasks, splits, completions and pairs, looked at and written out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ftcot_jax.errors import UsageError
from ftcot_jax.rationales.export import Form
from ftcot_jax.tasks.scoring import Scoring

if TYPE_CHECKING:
    from ftcot_jax.tasks.task import TaskData

data_app = typer.Typer(help="The tasks, their splits, and what teachers wrote about them.", no_args_is_help=True)

Keys = Annotated[list[str] | None, typer.Argument(help="Tasks, or YAML files that define some.")]
All = Annotated[bool, typer.Option("--all", help="Every task with upstream files.")]
SplitName = Annotated[str, typer.Option("--split", help="default, template, or a split's JSON file.")]
Mirror = Annotated[str | None, typer.Option(help="Folder of upstream files: OWNER/REPO/COMMIT/PATH.")]
To = Annotated[Path, typer.Option("--to", help="Folder to write to; made if missing.")]


@data_app.command("list")
def data_list() -> None:
    """The tasks there are, with licence and citation."""
    from ftcot_jax.tasks.registry import TASKS

    for task in TASKS.values():
        size = "generated" if task.size is None else f"{task.size} questions"
        choices = f" {task.choices[0]} to {task.choices[-1]}" if task.answer_type == "choice" else ""
        print(f"{task.key}: {size}; answers: {task.answer_type}{choices}; licence: {task.licence}; {task.citation}")


@data_app.command("fetch")
def data_fetch(keys: Keys = None, mirror: Mirror = None) -> None:
    """Brings upstream files to the cache, or checks a mirror's, and reads every question."""
    for key in keys or _upstream():
        data = _load(key, mirror)
        train, test = (sum(index in data.questions for index in part) for part in (data.split.train, data.split.test))
        print(f"{key}: {len(data.questions)} questions, {train} train, {test} test")


@data_app.command("export")
def data_export(
    to: To, keys: Keys = None, every: All = False, split: SplitName = "default", mirror: Mirror = None
) -> None:
    """Writes tasks in the authors' JSON: DIR/KEY.json, and the split as DIR/KEY__NAME.json."""
    from ftcot_jax.tasks.dataset_file import as_dataset, write_dataset, write_split

    to.mkdir(parents=True, exist_ok=True)
    for key in _wanted(keys, every, split):
        data = _load(key, mirror, split)
        name = data.task.key
        write_dataset(to / f"{name}.json", as_dataset(name, data.questions))
        write_split(to / f"{name}__{Path(split).stem}.json", data.split)
        print(f"{to / name}.json: {len(data.questions)} questions; {to / name}__{Path(split).stem}.json")


@data_app.command("overlap")
def data_overlap(keys: Keys = None, every: All = False, split: SplitName = "default", mirror: Mirror = None) -> None:
    """Test questions that training has too, word for word or but for names and numbers."""
    from ftcot_jax.tasks.overlap import find_overlap

    tasks = [_load(key, mirror, split) for key in _wanted(keys, every, split)]
    print("| task | test questions | same text in train | same template in train | repeated in the whole set |")
    print("|---|---|---|---|---|")
    for data in tasks:
        found = find_overlap(data)
        shared = f"{len(found.same_text)} | {len(found.same_template)}"
        print(f"| {data.task.key} | {found.test} | {shared} | {found.duplicates} |")


@data_app.command("score")
def data_score(
    files: Annotated[list[Path], typer.Argument(help="Completion files in the authors' JSON.")],
    task: Annotated[
        str | None, typer.Option(help="Their task, if the files do not name it: a key or a YAML file.")
    ] = None,
    scoring: Annotated[Scoring, typer.Option(help="Whose rules.")] = "paper",
    part: Annotated[Literal["test", "train", "all"], typer.Option(help="Whose questions count.")] = "test",
    mirror: Mirror = None,
) -> None:
    """Scores completions: accuracy, answer somewhere, right format, complete."""
    from ftcot_jax.evaluation.score_file import score_file

    rows = [(file, score_file(file, lambda key: _load(key, mirror), scoring, part, task)) for file in files]
    print(
        "| file | task | questions | completions | correct % | 95% interval | contains it % | format % | complete % |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for file, row in rows:
        low, high = row.interval
        shares = " | ".join(f"{100 * share:.2f}" for share in (row.contains_answer, row.correct_format, row.complete))
        counts = f"{row.answered} of {row.questions} | {row.completions} | {100 * row.correct:.2f}"
        print(f"| {file.name} | {row.task} | {counts} | {100 * low:.1f} - {100 * high:.1f} | {shares} |")


@data_app.command("pairs")
def data_pairs(
    recipe: Annotated[str, typer.Argument(help="A recipe: a YAML file.")],
    to: To,
    overrides: Annotated[list[str] | None, typer.Argument(help="section.key=value, as many as you like.")] = None,
    form: Annotated[Form, typer.Option(help="Which trainer's.")] = "jsonl",
    out: Annotated[str | None, typer.Option(help="The run's folder; default: runs/NAME.")] = None,
) -> None:
    """Writes what each trial of a recipe is trained on, for other trainers: DIR/TRIAL.jsonl or .parquet."""
    from ftcot_jax.config import load_recipe
    from ftcot_jax.stages.export_pairs import export

    changes = [*(overrides or []), *([] if out is None else [f"out={out}"])]
    loaded, trials = load_recipe(recipe, changes)
    for file, count in export(loaded, trials, form, to):
        print(f"{file}: {count} pairs")


@data_app.command("completions")
def data_completions(
    recipe: Annotated[str, typer.Argument(help="A recipe: a YAML file.")],
    to: Annotated[Path, typer.Option("--to", help="A file: .json for the authors' CompletionDataset, or .parquet.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="section.key=value, as many as you like.")] = None,
    out: Annotated[str | None, typer.Option(help="The run's folder; default: runs/NAME.")] = None,
) -> None:
    """Writes the teacher's completions of a recipe, sampled or imported."""
    from ftcot_jax.config import load_recipe
    from ftcot_jax.stages.data import export_completions

    loaded, trials = load_recipe(recipe, [*(overrides or []), *([] if out is None else [f"out={out}"])])
    print(f"{to}: {export_completions(loaded, trials, to)} completions")


@data_app.command("show")
def data_show(
    recipe: Annotated[str, typer.Argument(help="A recipe: a YAML file.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="section.key=value, as many as you like.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Records of each trial.")] = 3,
    out: Annotated[str | None, typer.Option(help="The run's folder; default: runs/NAME.")] = None,
) -> None:
    """Prints token records as text, between brackets what the student learns to write."""
    from ftcot_jax.config import load_recipe
    from ftcot_jax.stages.show_records import show

    for text in show(*load_recipe(recipe, [*(overrides or []), *([] if out is None else [f"out={out}"])]), count):
        print(text)


def _upstream() -> list[str]:
    from ftcot_jax.tasks.registry import TASKS

    return [task.key for task in TASKS.values() if task.sources]


def _wanted(keys: list[str] | None, every: bool, split: str) -> list[str]:
    """The tasks named, or all; of all, those that have the split."""
    from ftcot_jax.tasks.registry import TASKS

    if bool(keys) == every:
        raise UsageError("name some tasks, or say --all")
    if keys:
        return keys
    having = [key for key in _upstream() if split != "template" or TASKS[key].template_of]
    if len(having) < len(_upstream()):
        print(f"only {', '.join(having)} have a {split} split", file=sys.stderr)
    return having


def _load(key: str, mirror: str | None, split: str = "default") -> TaskData:
    from ftcot_jax.tasks.load import load_task
    from ftcot_jax.tasks.settings import TaskSettings

    data = load_task(TaskSettings(key=key, mirror=mirror, split=split))
    if data.missing:
        print(f"{key}: without {data.missing}", file=sys.stderr)
    return data
