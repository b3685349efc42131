"""`ftcot bench ...`: what this machine does, measured, beside its limits and beside others."""

from __future__ import annotations

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
