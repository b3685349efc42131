"""The command line: one command a stage, `run` for all of them, `quickstart` for the main job."""

from __future__ import annotations

import enum
import importlib.resources
import os
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from ftcot_jax.errors import FtcotError

app = typer.Typer(
    name="ftcot",
    help="Fine-tune-CoT on JAX: large teachers write rationales, small students learn from them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="The tasks and their upstream files.", no_args_is_help=True)
app.add_typer(data_app, name="data")

Recipe = Annotated[str, typer.Argument(help="A recipe: a YAML file; configs/ has some.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="section.key=value, as many as you like.")]
Out = Annotated[str | None, typer.Option(help="Output folder, local or gs://; default: runs/NAME.")]
Mirror = Annotated[str | None, typer.Option(help="Folder of upstream files: OWNER/REPO/COMMIT/PATH.")]
Debug = Annotated[bool, typer.Option(help="Show the stack trace of an error.")]


class Dtype(enum.Enum):
    """Precisions of exported weights."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


@app.callback()
def _options(debug: Debug = False) -> None:
    if debug:
        os.environ["FTCOT_DEBUG"] = "1"


@app.command()
def quickstart(
    overrides: Overrides = None, out: Annotated[str, typer.Option(help="Output folder.")] = "runs/quickstart"
) -> None:
    """Runs the whole road on a task the package generates: no key, no network, no accelerator."""
    recipe = importlib.resources.files("ftcot_jax.recipes") / "quickstart.yaml"
    with importlib.resources.as_file(recipe) as file:
        _stage("run", str(file), overrides, out)


@app.command()
def run(recipe: Recipe, overrides: Overrides = None, out: Out = None) -> None:
    """All stages: sample, curate, tokenize, train, evaluate, report. Finished ones are reused."""
    _stage("run", recipe, overrides, out)


@app.command()
def sample(recipe: Recipe, overrides: Overrides = None, out: Out = None) -> None:
    """The teacher's completions: sampled through the ledger, or imported."""
    _stage("sample", recipe, overrides, out)


@app.command()
def curate(recipe: Recipe, overrides: Overrides = None, out: Out = None) -> None:
    """Completions judged and formed into pairs; prints what each selection keeps."""
    _stage("curate", recipe, overrides, out)


@app.command()
def tokenize(recipe: Recipe, overrides: Overrides = None, out: Out = None) -> None:
    """Pairs as token records."""
    _stage("tokenize", recipe, overrides, out)


@app.command()
def train(recipe: Recipe, overrides: Overrides = None, out: Out = None) -> None:
    """Students trained, every trial of the recipe's grid."""
    _stage("train", recipe, overrides, out)


@app.command()
def evaluate(recipe: Recipe, overrides: Overrides = None, out: Out = None) -> None:
    """Trained students scored on the test questions."""
    _stage("evaluate", recipe, overrides, out)


@app.command()
def report(recipe: Recipe, overrides: Overrides = None, out: Out = None) -> None:
    """Tables and plots of what is finished, also while the rest still runs."""
    _stage("report", recipe, overrides, out)


@app.command()
def export(
    source: Annotated[str, typer.Argument(help="A recipe whose student is trained, or a student's folder.")],
    to: Annotated[str, typer.Option(help="Folder to write.")],
    overrides: Overrides = None,
    trial: Annotated[str | None, typer.Option(help="Which trial of the recipe's grid.")] = None,
    dtype: Annotated[Dtype, typer.Option(help="Precision on disk.")] = Dtype.float32,
    shard_gb: Annotated[float, typer.Option(help="Weights beyond this size are split into several files.")] = 5.0,
) -> None:
    """A student as a folder that transformers and vLLM load, adapters merged."""
    from ftcot_jax.stages import export as stage

    print(stage.export(source, overrides or [], trial, to, dtype.value, int(shard_gb * 1e9)))


@data_app.command("list")
def data_list() -> None:
    """The tasks there are, with licence and citation."""
    from ftcot_jax.tasks.registry import TASKS

    for task in TASKS.values():
        size = "generated" if task.size is None else f"{task.size} questions"
        print(f"{task.key}: {size}; answers: {task.answer_type}; licence: {task.licence}; {task.citation}")


@data_app.command("fetch")
def data_fetch(
    keys: Annotated[list[str] | None, typer.Argument(help="Tasks; default: all with upstream files.")] = None,
    mirror: Mirror = None,
) -> None:
    """Brings upstream files to the cache, or checks a mirror's, and reads every question."""
    from ftcot_jax.tasks.load import load_task
    from ftcot_jax.tasks.registry import TASKS
    from ftcot_jax.tasks.settings import TaskSettings

    for key in keys or [task.key for task in TASKS.values() if task.sources]:
        data = load_task(TaskSettings(key=key, mirror=mirror))
        print(f"{key}: {len(data.questions)} questions, {len(data.split.train)} train, {len(data.split.test)} test")


def _stage(name: str, recipe: str, overrides: list[str] | None, out: str | None) -> None:
    """Reads the recipe and runs one stage; imports late, so that help and bad usage answer at once."""
    from ftcot_jax.config import load_recipe
    from ftcot_jax.stages.run import STAGES

    changes = [*(overrides or []), *([] if out is None else [f"out={out}"])]
    loaded, trials = load_recipe(recipe, changes)
    text = STAGES[name](loaded, trials)
    if text:
        print(text)


def main() -> None:
    """Entry point: errors are one line and an exit code; a stack trace only with --debug."""
    sys.exit(_guarded(lambda: app(standalone_mode=True)))


def _guarded(call: Callable[[], None]) -> int:
    try:
        call()
    except FtcotError as error:
        if os.environ.get("FTCOT_DEBUG"):
            raise
        print(f"ftcot: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        if os.environ.get("FTCOT_DEBUG"):
            raise
        print(f"ftcot: {error.filename or 'input/output'}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("ftcot: stopped; run the same command to go on", file=sys.stderr)
        return 130
    except Exception as error:  # the outermost edge: whatever it is, the user gets a line and a way to learn more
        if os.environ.get("FTCOT_DEBUG"):
            raise
        first = (str(error).strip().splitlines() or [""])[0][:300]
        print(f"ftcot: unexpected {type(error).__name__}: {first} (ftcot --debug shows where)", file=sys.stderr)
        return 1
    return 0
