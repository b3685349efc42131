"""``ftcot bench train``: a recipe's training step and a short run of its pool, measured as a user would run them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax

import ftcot_jax
from ftcot_jax.bench.machine import Machine
from ftcot_jax.bench.table import check_writable, write_json
from ftcot_jax.bench.timed_step import StepWork, TimedStep
from ftcot_jax.bench.train_rows import TrainFound, train_json, train_rows, train_table
from ftcot_jax.bench.usage import device_peak_bytes, forget_peak, peak_bytes
from ftcot_jax.config import load_recipe
from ftcot_jax.errors import UsageError
from ftcot_jax.progress import say
from ftcot_jax.stages.bench_recipe import first_trial, jobs_from, programs_from_anew, short_run, step_work
from ftcot_jax.stages.evaluate import devices
from ftcot_jax.stages.groups import MOST_SLOTS, memory_of
from ftcot_jax.stages.groups import slots as slots_of
from ftcot_jax.stages.train import executor_of
from ftcot_jax.stages.trials import Job
from ftcot_jax.training.mesh import make_mesh
from ftcot_jax.training.step import Executor

_BYTES = {
    "cpu": "are those that any program moves (weights, gradients, moments, each layer's input), for most of what a "
    "CPU's program names stays in its caches",
    "": "are those that the compiled program moves",
}


def bench_train(
    recipe: str,
    overrides: Sequence[str],
    *,
    trial: str | None,
    steps: int,
    repeats: int,
    questions: int,
    file: str | None,
) -> str:
    """Measures, and returns what was found as Markdown; writes it as JSON too.

    Args:
      recipe: its file.
      overrides: of it.
      trial: which of its grid; None for the first that trains. Where there are more slots, those after it join in.
      steps: timed in each repeat: the trial's first.
      repeats: of the same steps.
      questions: asked at most of each student in the short run.
      file: for the JSON; None for none.

    Raises:
      UsageError: there is no such trial, it does not train here, or takes fewer steps.
      FtcotError: its records cannot be made here.
    """
    check_writable(file)
    loaded, specs = load_recipe(recipe, overrides)
    first = first_trial(loaded, specs, trial)
    settings = specs[first].recipe
    mesh = make_mesh(settings.mesh)
    backend, memory = jax.default_backend(), memory_of(jax.local_devices()[0])
    most = settings.train.slots or (1 if backend == "cpu" else MOST_SLOTS) * mesh.shape["trial"]
    with programs_from_anew():
        jobs = jobs_from(loaded, specs, first, most)
        slots = slots_of(settings.train, jobs[0].student, len(jobs), mesh.shape, backend, memory)
        jobs = jobs[:slots]
        require_steps(jobs, steps)
        executor = executor_of(settings.train, jax.default_backend())
        found = _measure(jobs, step_work(jobs), slots, executor, steps, repeats, questions)
    facts = {**about(jobs[0]), "slots": slots, "executor": executor, "steps": steps, "repeats": repeats}
    rows = train_rows(found)
    write_json(train_json(facts, found, rows), file)
    return f"{_title(facts, len(jobs))}\n\n{train_table(rows)}\n\n{_notes(jobs, slots, steps, questions)}"


def _measure(
    jobs: Sequence[Job], work: StepWork, slots: int, executor: Executor, steps: int, repeats: int, questions: int
) -> TrainFound:
    say("measuring the machine")
    machine = Machine.measure(work.student.compute.dtype)
    forget_peak()
    timed = TimedStep(work, slots, executor, steps)
    timed.fill()
    say(f"compiling the step for {len(set(timed.shapes))} batch shapes")
    compiling = timed.compile()
    warming = timed.warm_up()
    say(f"timing {repeats} times {steps} steps, some {1e3 * sum(warming) / len(warming):.0f} ms each")
    seconds = [timed.time() for _ in range(repeats)]
    on_device = device_peak_bytes()
    peak = (peak_bytes(), "of the process") if on_device is None else (on_device, "of a device")
    memory, needed = timed.memory(), timed.needed(machine)
    timed.close()
    say("a short run of the pool, with one checkpoint and one look")
    spent = short_run(jobs, max(2, steps), questions)
    together = 1 if jax.default_backend() == "cpu" else work.mesh.size
    return TrainFound(machine, together, needed, seconds, list(compiling.values()), warming, peak, memory, spent)


def require_steps(jobs: Sequence[Job], steps: int) -> None:
    """Refuses to time more steps than a trial takes.

    Raises:
      UsageError: it is asked for.
    """
    shortest = min(jobs, key=lambda job: job.steps)
    if steps > shortest.steps:
        raise UsageError(
            f"--steps {steps}: '{shortest.spec.name}' takes {shortest.steps} steps in all; time at most so many"
        )


def about(job: Job) -> dict[str, Any]:
    """What was measured, and on what, as JSON values."""
    return {
        "recipe": job.spec.recipe.name,
        "trial": job.spec.name,
        "student": job.student.architecture,
        "dtype": job.student.compute.dtype,
        "device": devices(),
        "jax": jax.__version__,
        "ftcot": ftcot_jax.__version__,
    }


def _title(facts: dict[str, Any], trials: int) -> str:
    others = f" and {trials - 1} more" if trials > 1 else ""
    return (
        f"{facts['recipe']}, trial '{facts['trial']}'{others} ({facts['student']}, {facts['dtype']}), on "
        f"{facts['device']}: slots: {facts['slots']} ({facts['executor']}), {facts['repeats']} repeats of "
        f"{facts['steps']} steps"
    )


def _notes(jobs: Sequence[Job], slots: int, steps: int, questions: int) -> str:
    bytes_ = _BYTES.get(jax.default_backend(), _BYTES[""])
    again = f" Slots beyond the {len(jobs)} trials there are take them again." if slots > len(jobs) else ""
    return (
        "Roofline: the slower of the model's arithmetic and the bytes of main memory, at the limits measured; bytes "
        f"{bytes_}. Short run: {max(2, steps)} steps, found compiled, one checkpoint, and one look with {questions} "
        f"questions at most, whose programs are compiled there; '{jobs[0].spec.name}' takes {jobs[0].steps} steps in "
        f"all.{again}"
    )
