"""The ``ftcot sweep`` commands: a recipe's whole grid, planned and run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

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


@sweep_app.command()
def status(
    source: Annotated[str, typer.Argument(help="The sweep's output folder, or its recipe.")],
    overrides: Overrides = None,
    out: Out = None,
    as_json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """What is done, runs, has failed and waits, and how long the rest takes; asks the folder alone, from anywhere."""
    from etils import epath
    from rich.console import Console

    from ftcot_jax.config import load_recipe
    from ftcot_jax.stages.place import run_folder
    from ftcot_jax.sweeps import status as sweeps

    if source.endswith((".yaml", ".yml")):
        recipe, _ = load_recipe(source, [*(overrides or []), *([] if out is None else [f"out={out}"])])
        found = sweeps.read_status(run_folder(recipe), recipe.name)
    else:
        found = sweeps.read_status(epath.Path(source).expanduser())
    if as_json:
        print(sweeps.as_json(found))
    else:
        sweeps.show(found, Console())


@sweep_app.command()
def submit(
    recipe: Recipe,
    overrides: Overrides = None,
    out: Out = None,
    to: Annotated[Literal["slurm", "k8s", "skypilot"], typer.Option(help="Who starts the workers.")] = "slurm",
    workers: Annotated[int, typer.Option(min=1, help="How many.")] = 4,
    gpus: Annotated[int, typer.Option(min=0, help="Of each worker, on Slurm and Kubernetes.")] = 1,
    time: Annotated[str, typer.Option(help="Slurm: after so long a worker goes back into the queue.")] = "24:00:00",
    image: Annotated[str | None, typer.Option(help="Kubernetes: the container image with ftcot.")] = None,
    accelerators: Annotated[str | None, typer.Option(help="SkyPilot: of each worker, such as H100:1.")] = None,
    file: Annotated[Path | None, typer.Option(help="The job file; default: NAME and the engine's ending.")] = None,
) -> None:
    """Writes the job file that starts the workers of a sweep, and shows it with the command that submits it."""
    from ftcot_jax.config import load_recipe
    from ftcot_jax.sweeps.submit import Submission, write_job

    loaded, _ = load_recipe(recipe, overrides or [])
    place = loaded.folder if out is None else out
    job = Submission(
        recipe=recipe,
        overrides=overrides or [],
        out=place,
        name=loaded.name,
        resolved=loaded.as_yaml(),
        workers=workers,
        gpus=gpus,
        time=time,
        image=image,
        accelerators=accelerators,
    )
    path, text, command = write_job(to, job, file)
    print(f"{text}\nwritten to {path}; to submit it:\n{command}")
