"""The command line: one command a stage, `run` for all of them, `quickstart` for the main job."""

from __future__ import annotations

import importlib.resources
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

from ftcot_jax.bench_commands import bench_app
from ftcot_jax.data_commands import data_app
from ftcot_jax.errors import UsageError
from ftcot_jax.stage_command import explain, run_stage
from ftcot_jax.sweep_commands import sweep_app

app = typer.Typer(
    name="ftcot",
    help="Fine-tune-CoT on JAX: large teachers write rationales, small students learn from them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(data_app, name="data")
app.add_typer(sweep_app, name="sweep")
app.add_typer(bench_app, name="bench")

Recipe = Annotated[str, typer.Argument(help="A recipe: a YAML file; configs/ has some.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="section.key=value, as many as you like.")]
Out = Annotated[str | None, typer.Option(help="Output folder; default: runs/NAME.")]
Debug = Annotated[bool, typer.Option(help="Show the stack trace of an error.")]


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
        run_stage("run", str(file), overrides, out)


@app.command()
def run(recipe: Recipe, overrides: Overrides = None, out: Out = None) -> None:
    """All stages: sample, curate, tokenize, train, evaluate, report. Finished ones are reused."""
    run_stage("run", recipe, overrides, out)


@app.command()
def sample(
    recipe: Recipe,
    overrides: Overrides = None,
    out: Out = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what it would buy and cost; send nothing.")] = False,
) -> None:
    """The teacher's completions: sampled through the ledger, or imported."""
    run_stage("dry_run" if dry_run else "sample", recipe, overrides, out)


@app.command()
def curate(recipe: Recipe, overrides: Overrides = None, out: Out = None) -> None:
    """Completions judged and formed into pairs; prints what each selection keeps."""
    run_stage("curate", recipe, overrides, out)


@app.command()
def tokenize(recipe: Recipe, overrides: Overrides = None, out: Out = None) -> None:
    """Pairs as token records."""
    run_stage("tokenize", recipe, overrides, out)


@app.command()
def train(recipe: Recipe, overrides: Overrides = None, out: Out = None) -> None:
    """Students trained, every trial of the recipe's grid."""
    run_stage("train", recipe, overrides, out)


@app.command()
def evaluate(recipe: Recipe, overrides: Overrides = None, out: Out = None) -> None:
    """Trained students scored on the test questions."""
    run_stage("evaluate", recipe, overrides, out)


@app.command()
def report(
    source: Annotated[str, typer.Argument(help="A run's folder, or its recipe.")],
    overrides: Overrides = None,
    out: Annotated[str | None, typer.Option(help="Output folder of the recipe's run; default: runs/NAME.")] = None,
    price: Annotated[float | None, typer.Option(min=0, help="US dollars a device and hour.")] = None,
) -> None:
    """Tables, figures and a page of what is finished, also while the rest still runs; makes nothing else."""
    import jax

    from ftcot_jax.stages.report import report_of

    jax.config.update("jax_platforms", "cpu")  # students are only described; an accelerator may be at work
    print(report_of(source, [*(overrides or []), *([] if out is None else [f"out={out}"])], price))


@app.command()
def study(
    sources: Annotated[
        list[str], typer.Argument(help="A recipe (with section.key=value), a run's folder, or completion files.")
    ],
    to: Annotated[Path, typer.Option(help="The page to write.")] = Path("study.html"),
    task: Annotated[str | None, typer.Option(help="Of files that do not name theirs: a key or a YAML file.")] = None,
    scoring: Annotated[Literal["paper", "robust"], typer.Option(help="Whose rules, for files.")] = "paper",
    most_texts: Annotated[int, typer.Option(min=1, help="Beyond these, whole questions are left out.")] = 20_000,
) -> None:
    """One HTML page to read questions, rationales and answers: filters, comparison, what went wrong."""
    from ftcot_jax.stages import study as stage

    changes = [source for source in sources if "=" in source and not Path(source).exists()]
    named = [source for source in sources if source not in changes]
    if not named:
        raise UsageError("name a recipe, a run's folder, or completion files")
    print(stage.study(named, changes, to, task, scoring, most_texts))


@app.command("api-student")
def api_student(recipe: Recipe, overrides: Overrides = None, out: Out = None) -> None:
    """Students fine-tuned and served by an API: curated, trained there, and scored."""
    run_stage("api_student", recipe, overrides, out)


@app.command()
def doctor(
    out: Annotated[str | None, typer.Option(help="Output folder, local or gs://, to try by writing a file.")] = None,
) -> None:
    """What ftcot sees of this machine: devices, versions, flags, memory, other processes; and what looks wrong."""
    from ftcot_jax.doctor import doctor as look

    print(look(out))


@app.command()
def export(
    source: Annotated[str, typer.Argument(help="A recipe whose student is trained, or a student's folder.")],
    to: Annotated[str, typer.Option(help="Folder to write.")],
    overrides: Overrides = None,
    trial: Annotated[str | None, typer.Option(help="Which trial of the recipe's grid.")] = None,
    dtype: Annotated[Literal["float32", "bfloat16", "float16"], typer.Option(help="Precision on disk.")] = "float32",
    shard_gb: Annotated[float, typer.Option(help="Weights beyond this size are split into several files.")] = 5.0,
) -> None:
    """A student as a folder that transformers and vLLM load, adapters merged."""
    from ftcot_jax.stages import export as stage

    print(stage.export(source, overrides or [], trial, to, dtype, int(shard_gb * 1e9)))


@app.command("compile")
def compile_(
    recipe: Recipe,
    overrides: Overrides = None,
    topology: Annotated[str, typer.Option(help="A pod's chip and shape, as v5e:16x16; or cpu:8, gpu:8.")] = "v5e:4x4",
    out: Out = None,
    record_tokens: Annotated[int, typer.Option(min=2, help="Of a record, where the run has none yet.")] = 192,
    label_tokens: Annotated[int, typer.Option(min=1, help="Of those, the rationale's and answer's.")] = 96,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """The recipe's programs for a pod that is not here: memory, talk between chips, speed at most, what fits."""
    from ftcot_jax.config import load_recipe
    from ftcot_jax.errors import FtcotError
    from ftcot_jax.stages import compile as stage

    loaded, trials = load_recipe(recipe, [*(overrides or []), *([] if out is None else [f"out={out}"])])
    values, text, fits = stage.compile_recipe(loaded, trials, topology, record_tokens, label_tokens)
    print(json.dumps(values, indent=1) if as_json else text)
    if not fits:
        raise FtcotError(f"{topology}: {values['too_much']}; {values['advice'][0]}")


def main() -> None:
    """Entry point: errors are one line and an exit code; a stack trace only with --debug."""
    sys.exit(_guarded(lambda: app(standalone_mode=True)))


def _guarded(call: Callable[[], None]) -> int:
    try:
        call()
    except (Exception, KeyboardInterrupt) as error:
        if os.environ.get("FTCOT_DEBUG"):
            raise
        line, code = explain(error)
        print(f"ftcot: {line}", file=sys.stderr)
        return code
    return 0
