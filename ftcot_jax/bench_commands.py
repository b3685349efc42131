"""`ftcot bench ...`: what this machine does, measured, beside its limits and beside others."""

from __future__ import annotations

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
