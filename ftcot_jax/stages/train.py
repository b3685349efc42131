"""Training the grid: one pool for each group of trials that can share a compiled program."""

from __future__ import annotations

import contextlib
import json
import platform
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
from etils import epath
from jax.sharding import Mesh

from ftcot_jax.progress import Update, show_progress
from ftcot_jax.records.table import RecordTable
from ftcot_jax.remote_folder import remove_tree
from ftcot_jax.stages.evaluate import Seated, devices, evaluate_looks, has_lost_patience
from ftcot_jax.stages.groups import architecture, memory_of, program, slots
from ftcot_jax.stages.kept import drop_superseded, is_best_so_far, keep_best, write_student
from ftcot_jax.stages.place import Place
from ftcot_jax.stages.trials import Job
from ftcot_jax.students.fused_attention import require_platform
from ftcot_jax.students.student import Student
from ftcot_jax.training.flops import Meter, StepFlops, peak_flops
from ftcot_jax.training.mesh import make_mesh, params_shardings
from ftcot_jax.training.metric_log import read_metrics
from ftcot_jax.training.pool import Pool, PoolOptions
from ftcot_jax.training.reporting import Elsewhere, metrics_file
from ftcot_jax.training.settings import TrainSettings
from ftcot_jax.training.step import Executor
from ftcot_jax.training.trial import Gate, Look, Looked, Trial

METRICS = "metrics.jsonl"


class Worker(Protocol):
    """Who trains, among others that may draw from the same queue; only process 0 of several asks it and tells it."""

    def admits(self, key: str) -> bool:
        """Whether a trial may be given a slot now, or keep the one it had; from then on it is this worker's."""

    def lost(self) -> Collection[str]:
        """Keys of admitted trials that are known to have been taken over."""

    def left(self, key: str) -> None:
        """A lost trial is no longer trained here."""

    def holds(self, key: str) -> bool:
        """Whether an admitted trial has not been taken over, to the best of anybody's knowledge."""

    def progress(self, key: str, step: int) -> None:
        """A trial has taken `step` steps."""

    def ended(self, key: str) -> None:
        """A trial's student is trained and scored."""

    def failed(self, key: str, reason: str) -> None:
        """A trial has stopped for good."""


def groups(jobs: Sequence[Job]) -> dict[str, list[Job]]:
    """Jobs that train, by the name of their compiled program, in order of first appearance."""
    found: dict[str, list[Job]] = {}
    for job in jobs:
        if job.trains:
            name = program(job.spec.recipe.train, job.student, job.data.budget)
            found.setdefault(name, []).append(job)
    return found


def train_group(place: Place, jobs: Sequence[Job], missing: Sequence[Job], name: str, worker: Worker) -> None:
    """Runs one pool in the run's folder of that name; each trial ends as a student artefact and its scores.

    Shapes and slots are chosen for all jobs of the group, though only the missing ones are trained, in their order: so
    a run that was killed after some of them, or one of several workers, computes the others exactly as it would have.

    Raises:
      Preempted: the process was asked to stop; everything is saved.
    """
    folder, saves, bucket = place.local / name, place.folder / name / "checkpoints", _Bucket(place, name)
    table, trials = joined(jobs)
    settings, mesh = jobs[0].spec.recipe.train, make_mesh(jobs[0].spec.recipe.mesh)
    options = PoolOptions(
        slots=slots(
            settings, jobs[0].student, len(jobs), mesh.shape, jax.default_backend(), memory_of(jax.local_devices()[0])
        ),
        executor=executor_of(settings, jax.default_backend()),
        checkpoints=settings.checkpoints,
        folder=folder,
        board=place.local / "tensorboard",
        saves=saves,
        elsewhere=bucket,
        wandb=settings.wandb,
        profile_steps=settings.profile_steps,
        microbatches=max(job.spec.recipe.train.microbatches for job in jobs),
        share_questions=settings.batch.share_questions,
        input=settings.input,
    )
    platform = mesh.devices.flat[0].platform
    student = jobs[0].student.on(platform)
    require_platform(student.compute.attention, platform, mesh.size)
    own = frozen = frozen_params(student, mesh)
    if frozen is not None and place.processes.count > 1:
        # Params come to process 0 alone, which joins them with its own copy.
        own = student.split(student.load())[0] if place.processes.lead else None
    with show_progress("train") if place.processes.lead else contextlib.nullcontext(_no_update) as update:
        listener = _Listener(place, {job.key: job for job in missing}, folder, update, frozen, own, worker)
        pool = Pool(
            student,
            architecture(jobs[0].student),  # the same wherever its checkpoints go on
            table,
            trials,
            mesh,
            options,
            listener,
            place.say,
            frozen,
            place.processes,
            _meter(student, mesh, settings),
            queue=[job.key for job in missing],
            gate=listener,
        )
        try:
            pool.run()
        finally:
            place.add_training(pool.clock.read())
            bucket.keep_all()  # also before the machine goes
    place.processes.gather(f"{folder.name} done")
    if place.processes.lead:
        remove_tree(saves)  # every trial ended: nothing is left to resume


def joined(jobs: Sequence[Job]) -> tuple[RecordTable, list[Trial]]:
    """The records of all jobs as one table, and the jobs as trials over it."""
    tables = {job.records.artifact.address: job.records.table for job in jobs}
    offsets, total = {}, 0
    for made, table in tables.items():
        offsets[made], total = total, total + len(table)
    trials = [job.trial(offsets[job.records.artifact.address]) for job in jobs]
    return RecordTable.join(list(tables.values())), trials


def frozen_params(student: Student, mesh: Mesh) -> Any:
    """What a student with adapters does not train, over the mesh; None where all is trained."""
    if student.compute.lora is None:
        return None
    places = params_shardings(mesh, student.sharding_rules, student.shapes)
    return student.split(student.load(places))[0]


def _no_update(done: int, total: int, note: str) -> None:
    """Process 0 shows the progress of all."""


def _meter(student: Student, mesh: Mesh, settings: TrainSettings) -> Meter | None:
    """Tells the devices' utilisation; None where records share tokens, which this arithmetic does not know of."""
    if settings.batch.share_questions:
        return None
    head = jax.eval_shape(student.head, student.shapes).shape
    peak = peak_flops(list(mesh.devices.flat), student.compute.dtype)
    return Meter(StepFlops.of(student.shapes_by_path, head), peak)


def executor_of(settings: TrainSettings, backend: str) -> Executor:
    """How the slots are computed: as asked, or as suits devices of this kind."""
    if settings.slot_executor != "auto":
        return settings.slot_executor
    return "map" if backend == "cpu" else "vmap"


class _Bucket(Elsewhere):
    """Keeps a pool's logs in the run's folder, where that is a bucket; `place.local` is the bucket's stand-in."""

    def __init__(self, place: Place, name: str) -> None:
        self._pool, self._boards = place.mirror(name), place.mirror("tensorboard")
        self._metrics_of: set[str] = set()
        self._boards_of: set[str] = set()

    def going_on(self, metrics: Path, board: Path | None) -> None:
        name = f"{metrics.parent.name}/{metrics.name}"
        self._pool.fetch(name)
        self._metrics_of.add(name)
        if board is not None:
            self._boards_of.add(board.name)

    def keep(self) -> None:
        self._pool.push(sorted(self._metrics_of))
        self._boards.push(sorted(self._boards_of))

    def keep_all(self) -> None:
        """Keeps what is there at the end, traces and Weights & Biases' own files too."""
        self.keep()
        self._pool.push(["wandb", "profile"])


class _Listener(Gate):
    """Turns what the pool tells into artefacts, scores and progress."""

    def __init__(
        self,
        place: Place,
        jobs: dict[str, Job],
        folder: Path,
        update: Update,
        frozen: Any,
        own: Any,
        worker: Worker,
    ) -> None:
        self._place, self._jobs, self._folder, self._update = place, jobs, folder, update
        self._frozen, self._own = frozen, own  # what adapters belong to: over the mesh, and in this process alone
        self._worker = worker
        self._steps = dict.fromkeys(jobs, 0)
        self._total = sum(job.steps for job in jobs.values())
        self._running: dict[str, dict[str, Any]] = {}

    def admits(self, trial: Trial) -> bool:
        if self._worker.admits(trial.key):
            return True
        self._total -= trial.steps  # another's
        return False

    def lost(self) -> Collection[str]:
        return self._worker.lost()

    def left(self, trial: Trial) -> None:
        self._place.say(f"train: {trial.name} was taken over by another worker, for this one was not heard of")
        self._running.pop(trial.key, None)
        if self._place.processes.lead:
            self._worker.left(trial.key)

    def look(self, due: Sequence[Look], params_S: Any) -> Looked:
        seated = [Seated(look.slot, self._jobs[look.trial.key], look.step) for look in due]
        evaluate_looks(self._place, seated, params_S, self._frozen)
        if not self._place.processes.lead:
            return Looked()
        return Looked(
            keep=[slot for slot, job, step in seated if is_best_so_far(self._place, job, step)],
            stop=[slot for slot, job, step in seated if has_lost_patience(self._place, job, step)],
        )

    def keep(self, trial: Trial, step: int, params: Any) -> None:
        job = self._jobs[trial.key]
        keep_best(self._place, job, step, job.student.join(self._own, params))

    def finished(self, trial: Trial, step: int, params: Any, summary: dict[str, Any]) -> None:
        self._running.pop(trial.key, None)
        self._total -= trial.steps - step
        if step < trial.steps:
            patience = self._jobs[trial.key].spec.recipe.evaluate.patience
            self._place.say(f"train: {trial.name} stopped early after step {step}: no better in {patience} looks")
        job = self._jobs[trial.key]
        if not self._worker.holds(trial.key):
            return  # another has taken it over, and hands it in
        params = job.student.join(self._own, params)

        def build(folder: epath.Path) -> dict[str, Any]:
            write_student(job, params, folder)
            log = metrics_file(self._folder, trial)
            rows = read_metrics(log)
            (folder / METRICS).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
            return _training_summary(job, step, rows, summary)

        drop_superseded(self._place, job, step)
        self._place.store.make("student", job.inputs, build)
        self._worker.ended(trial.key)

    def failed(self, trial: Trial, reason: str) -> None:
        self._running.pop(trial.key, None)
        self._place.say(f"train: {trial.name} stopped: {reason}; the other trials go on")
        if self._place.processes.lead:
            self._worker.failed(trial.key, reason)

    def progress(self, trial: Trial, step: int, row: dict[str, Any]) -> None:
        self._steps[trial.key] = step
        if self._place.processes.lead:
            self._worker.progress(trial.key, step)
        self._running[trial.key] = row
        note = f"{trial.name}: step {step}/{trial.steps} loss {row['loss']:.3f}, {speed(list(self._running.values()))}"
        self._update(sum(self._steps.values()), self._total, note)


def speed(rows: Sequence[dict[str, Any]]) -> str:
    """How fast the trials of one pool go together, from a row of each."""
    examples, tokens = (sum(row[f"{name}_per_second"] for row in rows) for name in ("examples", "tokens"))
    used = [row["mfu"] for row in rows if "mfu" in row]
    share = f", MFU {100 * sum(used):.1f}%" if used else ""
    return f"{examples:.1f} examples/s, {tokens:.0f} tokens/s{share}"


def _training_summary(job: Job, step: int, rows: list[dict[str, Any]], summary: dict[str, Any]) -> dict[str, Any]:
    """What the report needs of a run of `step` steps. Losses are means over the first and the last twentieth of it."""
    share = max(1, len(rows) // 20)
    losses = [row["loss"] for row in rows]
    return {
        "steps": step,
        "stopped_early": step < job.steps,
        "epochs": round(job.data.epochs_at(step), 3),
        "records": len(job.records.selection.chosen),
        "loss_first": sum(losses[:share]) / share,
        "loss_last": sum(losses[-share:]) / share,
        "examples_per_second": summary["examples_per_second"],
        "mfu": None if summary["mfu"] is None else round(summary["mfu"], 4),
        "tokens": int(sum(row["tokens"] for row in rows)),
        "packing_efficiency": round(summary["packing_efficiency"], 4),
        "shared_token_share": round(summary["shared_token_share"], 4),
        "input_wait_share": round(summary["input_wait_share"], 4),
        "seconds": round(summary["seconds"], 3),
        "spent": {part: round(seconds, 3) for part, seconds in summary["spent"].items()},
        "slots": summary["slots"],
        "device": devices(),
        "machine": platform.machine(),
        "jax": jax.__version__,
    }
