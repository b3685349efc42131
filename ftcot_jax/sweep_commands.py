"""The ``ftcot sweep`` commands: a recipe's whole grid, planned and run."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from ftcot_jax.stage_command import run_stage

sweep_app = typer.Typer(help="A recipe's whole grid of trials.", no_args_is_help=True)

Recipe = Annotated[str, typer.Argument(help="A recipe: a YAML file; configs/ has some.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="section.key=value, as many as you like.")]
Out = Annotated[str | None, typer.Option(help="Output folder; default: runs/NAME.")]


@sweep_app.command()
def plan(
    recipe: Recipe,
    overrides: Overrides = None,
    out: Out = None,
    device: Annotated[str | None, typer.Option(help="v5e, h100, ...; default: what this machine has.")] = None,
    devices: Annotated[int, typer.Option(min=1, help="How many of --device.")] = 1,
    utilisation: Annotated[float, typer.Option(min=0.001, max=1, help="Assumed where no trial has finished.")] = 0.3,
    price: Annotated[float | None, typer.Option(min=0, help="US dollars a device and hour.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """The trials, the programs they share, steps, time, memory and cost; nothing is bought, trained or written."""
    import jax

    from ftcot_jax.config import load_recipe
    from ftcot_jax.stages.sweep_plan import plan_sweep
    from ftcot_jax.sweeps.devices import named_device, this_machine

    loaded, trials = load_recipe(recipe, [*(overrides or []), *([] if out is None else [f"out={out}"])])
    if device is not None:
        jax.config.update("jax_platforms", "cpu")  # its shapes are reckoned anywhere; an accelerator may be at work
    own = {trial.recipe.student.dtype for trial in trials if trial.recipe.student is not None}
    target = this_machine(jax.devices(), sorted(own)) if device is None else named_device(device, devices)
    found = plan_sweep(loaded, trials, target, utilisation, price)
    print(found.as_json() if as_json else found.as_text())


@sweep_app.command()
def run(
    recipe: Recipe,
    overrides: Overrides = None,
    out: Out = None,
    worker: Annotated[
        str | None, typer.Option(help="i/n: the i-th of n workers; default: as Slurm, Kubernetes or a TPU slice tells.")
    ] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try failed trials once more.")] = False,
) -> None:
    """Trains and scores the whole grid: this worker's share first, then what others leave; call it again to go on."""
    from ftcot_jax.sweeps.shares import Share, find_share
    from ftcot_jax.training.cluster import find_slice, part_slices

    share = find_share(os.environ) if worker is None else Share.parse(worker)
    if find_slice(os.environ)[1] > 1:
        part_slices(os.environ)
    run_stage("sweep", recipe, overrides, out, share=share, retry_failed=retry_failed)
