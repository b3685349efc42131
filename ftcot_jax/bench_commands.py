"""`ftcot bench ...`: what this machine does, measured, beside its limits and beside others."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import typer

bench_app = typer.Typer(help="What this machine does, measured.", no_args_is_help=True)


@bench_app.command("generate")
def bench_generate(
    completions: Annotated[str, typer.Argument(help="CompletionDataset JSON: questions, and how long to write.")],
    student: Annotated[str | None, typer.Option(help="Checkpoint; default: GPT-2 124M's shape, random.")] = None,
    tokenizer: Annotated[str | None, typer.Option(help="Folder of the random student's tokenizer.")] = None,
    prompts: Annotated[int, typer.Option(min=1, help="How many questions, evenly spaced.")] = 96,
    rows: Annotated[int, typer.Option(min=1, help="Texts that ours writes at a time.")] = 32,
    repeats: Annotated[int, typer.Option(min=1, help="Turns of ours and theirs.")] = 3,
    dtype: Annotated[Literal["float32", "bfloat16"], typer.Option(help="Precision of both.")] = "float32",
    runaways: Annotated[bool, typer.Option(help="Also with one text in twenty that never stops.")] = False,
    alone: Annotated[bool, typer.Option("--alone", help="Ours only, without transformers.")] = False,
) -> None:
    """Prompts and tokens a second, beside transformers' generate on the same weights and prompts."""
    from ftcot_jax.bench.generate import bench_generate as measure

    measure(
        completions,
        checkpoint=student,
        tokenizer=tokenizer,
        prompts=prompts,
        rows=rows,
        repeats=repeats,
        dtype=dtype,
        runaways=runaways,
        alone=alone,
        say=lambda line: print(line, flush=True),
    )


Recipe = Annotated[str, typer.Argument(help="A recipe: a YAML file; configs/ has some.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="section.key=value, as many as you like.")]
OneTrial = Annotated[str | None, typer.Option("--trial", help="Which trial of its grid; default: the first.")]
Json = Annotated[Path | None, typer.Option("--json", help="Also write the figures to this file.")]


@bench_app.command("train")
def bench_train(
    recipe: Recipe,
    overrides: Overrides = None,
    trial: OneTrial = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps timed in each repeat: the trial's first.")] = 10,
    repeats: Annotated[int, typer.Option(min=1, help="Repeats of the same steps.")] = 3,
    questions: Annotated[int, typer.Option(min=1, help="Test questions of the short run's one look.")] = 16,
    json: Json = None,
) -> None:
    """A recipe's training step against the machine's limits, and what a run spends its time on."""
    from ftcot_jax.stages.bench_train import bench_train as measure

    print(measure(recipe, overrides or [], trial=trial, steps=steps, repeats=repeats, questions=questions, file=json))


@bench_app.command("sweep")
def bench_sweep(
    recipe: Recipe,
    overrides: Overrides = None,
    trial: OneTrial = None,
    slots: Annotated[
        int | None, typer.Option(min=1, help="Slots at most; default: the grid's trials, up to 8.")
    ] = None,
    executor: Annotated[
        Literal["both", "auto", "vmap", "map"], typer.Option(help="How slots are computed; auto: as training would.")
    ] = "both",
    steps: Annotated[int, typer.Option(min=1, help="Steps timed in each repeat: the trials' first.")] = 10,
    repeats: Annotated[int, typer.Option(min=1, help="Repeats of the same steps.")] = 3,
    questions: Annotated[int, typer.Option(min=1, help="Test questions of the short run's one look.")] = 16,
    json: Json = None,
) -> None:
    """What slots cost and give: the recipe's step at 1, 2, 4, ... of them, and what a pool takes besides."""
    began = time.monotonic()
    from ftcot_jax.stages.bench_sweep import bench_sweep as measure

    print(
        measure(
            recipe,
            overrides or [],
            began=began,
            trial=trial,
            most=slots,
            executor=executor,
            steps=steps,
            repeats=repeats,
            questions=questions,
            file=json,
        )
    )
