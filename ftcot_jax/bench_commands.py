"""`ftcot bench ...`: what this machine does, measured, beside its limits and beside others."""

from __future__ import annotations

import time
from typing import Annotated, Literal

import typer

JsonFile = Annotated[str | None, typer.Option("--json", metavar="FILE", help="Write all figures there too.")]

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
    json_file: JsonFile = None,
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
        json_file=json_file,
        say=lambda line: print(line, flush=True),
    )


@bench_app.command("sample")
def bench_sample(
    requests: Annotated[int, typer.Option(min=8, help="Of each client in each turn.")] = 2000,
    choices: Annotated[
        list[int] | None, typer.Option(min=1, max=1024, help="Completions a request, n; repeatable; default: 1 and 64.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Requests in flight.")] = 256,
    repeats: Annotated[int, typer.Option(min=1, help="Turns of all clients.")] = 3,
    endpoint: Annotated[str | None, typer.Option(help="Measure this server, which is paid; default: canned.")] = None,
    model: Annotated[str | None, typer.Option(help="The endpoint's name of the model.")] = None,
    folder: Annotated[str, typer.Option(help="Where the ledgers lie meanwhile: their disk counts.")] = ".",
    json_file: JsonFile = None,
) -> None:
    """Completions a second of the teacher's client, ledger included, beside raw aiohttp. About a minute."""
    from ftcot_jax.bench.sample import bench_sample as measure

    measure(
        requests=requests,
        choices=choices or [1, 64],
        concurrency=concurrency,
        repeats=repeats,
        endpoint=endpoint,
        model=model,
        folder=folder,
        json_file=json_file,
        say=lambda line: print(line, flush=True),
    )


@bench_app.command("records")
def bench_records(
    files: Annotated[list[str], typer.Argument(help="CompletionDataset JSON files.")],
    tokenizer: Annotated[
        str | None, typer.Option(help="Folder of a tokenizer, for a student of GPT-2's shape.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="A recipe: the student and batch of its first trial with rationales.")
    ] = None,
    copies: Annotated[int, typer.Option(min=1, help="Times each file is taken, as if it were so much longer.")] = 1,
    repeats: Annotated[int, typer.Option(min=1, help="Times the whole road is gone, after a first to warm up.")] = 5,
    folder: Annotated[str, typer.Option(help="Where the records lie meanwhile: its disk counts.")] = ".",
    json_file: JsonFile = None,
) -> None:
    """From completions to batches: texts and tokens a second of each stage, beside its limit. Seconds."""
    from ftcot_jax.bench.records import bench_records as measure
    from ftcot_jax.stages.bench_records import who_trains

    measure(
        files,
        who_trains(tokenizer, recipe),
        copies=copies,
        repeats=repeats,
        folder=folder,
        json_file=json_file,
        say=lambda line: print(line, flush=True),
    )


Recipe = Annotated[str, typer.Argument(help="A recipe: a YAML file; configs/ has some.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="section.key=value, as many as you like.")]
OneTrial = Annotated[str | None, typer.Option("--trial", help="Which trial of its grid; default: the first.")]


@bench_app.command("train")
def bench_train(
    recipe: Recipe,
    overrides: Overrides = None,
    trial: OneTrial = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps timed in each repeat: the trial's first.")] = 10,
    repeats: Annotated[int, typer.Option(min=1, help="Repeats of the same steps.")] = 3,
    questions: Annotated[int, typer.Option(min=1, help="Test questions of the short run's one look.")] = 16,
    json_file: JsonFile = None,
) -> None:
    """A recipe's training step against the machine's limits, and what a run spends its time on."""
    from ftcot_jax.stages.bench_train import bench_train as measure

    print(
        measure(recipe, overrides or [], trial=trial, steps=steps, repeats=repeats, questions=questions, file=json_file)
    )


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
    json_file: JsonFile = None,
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
            file=json_file,
        )
    )
