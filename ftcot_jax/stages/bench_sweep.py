"""``ftcot bench sweep``: a recipe's step at 1, 2, 4, ... slots, and what a pool takes besides its steps."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from typing import Literal

import jax

from ftcot_jax.bench.machine import Machine
from ftcot_jax.bench.slot_rows import PoolFound, SlotsFound, pool_rows, pool_table, slot_rows, slots_table
from ftcot_jax.bench.table import check_writable, write_json
from ftcot_jax.bench.timed_step import StepWork, TimedStep
from ftcot_jax.config import load_recipe
from ftcot_jax.errors import FtcotError, UsageError
from ftcot_jax.progress import say
from ftcot_jax.stages.bench_recipe import first_trial, jobs_from, programs_from_anew, short_run, step_work
from ftcot_jax.stages.bench_train import about, require_steps
from ftcot_jax.stages.train import executor_of
from ftcot_jax.stages.trials import Job
from ftcot_jax.training.mesh import make_mesh
from ftcot_jax.training.step import Executor

Executors = Literal["both", "auto", "vmap", "map"]
MOST_SLOTS = 8  # where nobody says: more programs take long to compile


def bench_sweep(
    recipe: str,
    overrides: Sequence[str],
    *,
    began: float,
    trial: str | None,
    most: int | None,
    executor: Executors,
    steps: int,
    repeats: int,
    questions: int,
    file: str | None,
) -> str:
    """Measures, and returns what was found as Markdown; writes it as JSON too.

    Args:
      recipe: its file.
      overrides: of it.
      began: `time.monotonic()` when the command began.
      trial: the first to take a slot; None for the first that trains.
      most: slots at most; None for as many as trials share its program, up to 8. Beyond those, trials are taken again.
      executor: whose steps are timed.
      steps: timed in each repeat: the trials' first.
      repeats: of the same steps.
      questions: asked at most of each student in the short run.
      file: for the JSON; None for none.

    Raises:
      UsageError: there is no such trial, it does not train here, takes fewer steps, or slots do not fit the mesh.
      FtcotError: records cannot be made here, or not even the fewest slots fit the devices.
    """
    check_writable(file)
    loaded, specs = load_recipe(recipe, overrides)
    first = first_trial(loaded, specs, trial)
    shards = make_mesh(specs[first].recipe.mesh).shape["trial"]
    if most is not None and most % shards:
        raise UsageError(f"--slots {most}: mesh.trial={shards} spreads slots evenly; give a multiple of {shards}")
    started = time.monotonic() - began
    with programs_from_anew():
        jobs = jobs_from(loaded, specs, first, most or MOST_SLOTS)
        prepared = time.monotonic() - began - started
        require_steps(jobs, steps)
        counts = slot_counts(most or max(1, len(jobs) // shards) * shards, shards)
        chosen = executor_of(jobs[0].spec.recipe.train, jax.default_backend())
        names: tuple[Executor, ...] = ("vmap", "map")
        if executor != "both":
            names = (chosen if executor == "auto" else executor,)
        work = step_work(jobs)
        say("measuring the machine")
        machine = Machine.measure(work.student.compute.dtype)
        found = [one for name in names for one in _of_executor(work, counts, name, steps, repeats, machine)]
        fitting = [one for one in found if one.needed and one.executor == (chosen if chosen in names else names[0])]
        if not fitting:
            raise FtcotError(f"{loaded.name}: the step of {counts[0]} slots does not fit the memory here")
        pool = _pool(jobs, started, prepared, fitting[0], fitting[-1], max(2, steps), questions)
    found.sort(key=lambda one: one.slots)
    facts = {**about(jobs[0]), "trials": len(jobs), "steps": steps, "repeats": repeats}
    table, rest = slot_rows(found), pool_rows(pool)
    limits = {"limit_flop_per_second": machine.flops, "limit_bytes_per_second": machine.bandwidth}
    write_json({**facts, **limits, "slots": table, "pool": [row.as_json() for row in rest]}, file)
    title = (
        f"{facts['recipe']}, {len(jobs)} trials from '{facts['trial']}' on ({facts['student']}, {facts['dtype']}), on "
        f"{facts['device']} ({machine} each): {repeats} repeats of {steps} steps"
    )
    return f"{title}\n\n{slots_table(table)}\n\n{pool_table(rest)}"


def slot_counts(most: int, shards: int) -> list[int]:
    """One slot a device along `trial`, twice as many, and so on up to `most`."""
    counts = [shards]
    while 2 * counts[-1] < most:
        counts.append(2 * counts[-1])
    return sorted({*counts, most})


def _of_executor(
    work: StepWork, counts: Sequence[int], executor: Executor, steps: int, repeats: int, machine: Machine
) -> list[SlotsFound]:
    """The step at each number of slots, up to the first that does not fit."""
    found: list[SlotsFound] = []
    for slots in counts:
        say(f"{slots} slots by {executor}")
        try:
            found.append(_measure(work, slots, executor, steps, repeats, machine))
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            say(f"{slots} slots by {executor} do not fit; more are not tried")
            return [*found, SlotsFound(slots, executor, steps)]
    return found


def _measure(work: StepWork, slots: int, executor: Executor, steps: int, repeats: int, machine: Machine) -> SlotsFound:
    timed = TimedStep(work, slots, executor, steps)
    try:
        filling = timed.fill()
        compiling = sum(timed.compile().values())
        timed.warm_up()
        seconds = [sum(timed.time()) for _ in range(repeats)]
        needed = timed.needed(machine)
        return SlotsFound(slots, executor, steps, needed, seconds, compiling, filling, timed.memory())
    finally:
        timed.close()


def _pool(
    jobs: Sequence[Job],
    started: float,
    prepared: float,
    alone: SlotsFound,
    together: SlotsFound,
    steps: int,
    questions: int,
) -> PoolFound:
    slots = min(together.slots, len(jobs))
    say(f"a short run of the pool with {slots} slots")
    spent = short_run([_with_slots(job, slots, together.executor) for job in jobs[:slots]], steps, questions)
    return PoolFound(started, prepared, alone, together, together.slots, jobs[0].steps, slots, spent)


def _with_slots(job: Job, slots: int, executor: Executor) -> Job:
    recipe = job.spec.recipe
    train = recipe.train.model_copy(update={"slots": slots, "slot_executor": executor})
    spec = job.spec.model_copy(update={"recipe": recipe.model_copy(update={"train": train})})
    return dataclasses.replace(job, spec=spec)
