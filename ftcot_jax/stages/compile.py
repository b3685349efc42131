"""``ftcot compile``: a recipe's programs for devices that need not be here, and what to change if they do not fit."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from etils import epath

from ftcot_jax.artifacts import Store
from ftcot_jax.bench.compile_advice import advise
from ftcot_jax.bench.compile_chips import Topology, find_topology
from ftcot_jax.bench.compile_figures import Figures, as_json, as_lines, figures_of, too_much
from ftcot_jax.bench.compile_programs import Setup
from ftcot_jax.config import Recipe, TrialRecipe
from ftcot_jax.errors import FtcotError, UsageError
from ftcot_jax.records.packing import BatchShape
from ftcot_jax.records.plan import Planner
from ftcot_jax.records.table import RecordTable
from ftcot_jax.stages.groups import memory_of
from ftcot_jax.stages.groups import slots as slots_of
from ftcot_jax.stages.place import Place
from ftcot_jax.stages.train import executor_of, groups
from ftcot_jax.stages.trials import PAPER_EXAMPLES, Job, prepare
from ftcot_jax.students.fused_attention import require_platform
from ftcot_jax.students.load import load_student
from ftcot_jax.students.student import Student
from ftcot_jax.sweeps.plan_work import activation_bytes
from ftcot_jax.tasks.templates import get_template
from ftcot_jax.training.flops import StepFlops, peak_flops
from ftcot_jax.training.mesh import make_mesh
from ftcot_jax.training.optimizer import Hyper

_SAMPLED_STEPS = 32


@dataclasses.dataclass(frozen=True)
class Batches:
    """What a slot trains on in a step.

    Attributes:
      usual: the shape that most steps have.
      largest: the one that holds most for the backward pass.
      lengths: (B, P) tokens of each part of a usual step's records.
      labels: (B,) their label tokens.
      records: in the table.
      tokens: in the table.
      source: where this comes from, in words.
    """

    usual: BatchShape
    largest: BatchShape
    lengths: np.ndarray
    labels: np.ndarray
    records: int
    tokens: int
    source: str


def compile_recipe(
    recipe: Recipe, specs: Sequence[TrialRecipe], topology: str, record_tokens: int, label_tokens: int
) -> tuple[dict[str, Any], str, bool]:
    """Compiles the first pool of a recipe; nothing is sampled, made or trained.

    Args:
      recipe: as written.
      specs: its trials.
      topology: the devices' name.
      record_tokens: of a record, prompt and label, where the run has no records yet.
      label_tokens: its label's.

    Returns:
      The figures as JSON values, the same for a person, and whether all programs fit.

    Raises:
      UsageError: nothing of the recipe is trained, or the mesh does not fit the devices.
      FtcotError: this machine cannot compile for them.
    """
    trained = [spec for spec in specs if get_template(spec.recipe.template).trains]
    if not trained:
        raise UsageError(f"{recipe.name}: nothing is trained: every template of the recipe only asks")
    place = find_topology(topology)
    first, mesh = trained[0].recipe, make_mesh(trained[0].recipe.mesh, place.devices)
    student, settings, group = _student(first).on(place.platform), first.train, _jobs(recipe, trained)
    require_platform(student.compute.attention, place.platform, mesh.size)
    memory = memory_of(place.devices[0]) if place.chip is None else place.chip.memory
    slots = slots_of(settings, student, len(group) or len(trained), mesh.shape, place.platform, memory)
    shares = mesh.shape["data"] * mesh.shape["fsdp"]
    if group:
        batches = _from_records(group, student, shares, slots)
    else:
        batches = _assumed(first, student, shares, record_tokens, label_tokens)
    setup = Setup(
        student,
        mesh,
        slots,
        executor_of(settings, place.platform),
        Hyper.of(settings, settings.steps or 1000),
        batches.usual,
        batches.records,
        batches.tokens,
    )
    peak = None if place.chip is None else peak_flops([place.devices[0]], student.compute.dtype)
    axes = {axis: int(size) for axis, size in mesh.shape.items()}

    def figures(name: str, lowered: jax.stages.Lowered) -> Figures:
        return figures_of(name, lowered, axes, place.chip, peak)

    length = min(first.evaluate.max_length, student.context_length)
    columns = max(64, 1 << (length - 1).bit_length())
    found = [figures("train step", setup.step())]
    if batches.largest != batches.usual:
        found.append(
            figures("train step of the largest batch", dataclasses.replace(setup, shape=batches.largest).step())
        )
    found.append(figures("slot refill", setup.refill()))
    found.append(
        figures(f"decode step, {first.evaluate.batch_rows} rows a slot", setup.decode(_rows(first, shares), columns))
    )
    fits = all(one.fits for one in found)
    head = _head(setup, place, batches)
    bound = _bound(setup, found[0], batches, peak)
    tips = (
        []
        if place.chip is None
        else advise(
            dataclasses.replace(setup, shape=batches.largest),
            found[1] if batches.largest != batches.usual else found[0],
            lambda other: figures("train step", other.step()),
        )
    )
    idle = len(place.devices) - mesh.size
    if idle:
        tips.append(
            f"the mesh leaves {idle} of {len(place.devices)} devices idle: mesh.trial=-1 spreads slots over all"
        )
    values = {
        **head,
        "programs": [as_json(one) for one in found],
        "bound": bound,
        "advice": tips,
        "fits": fits,
        "too_much": "; ".join(too_much(one) for one in found if not one.fits),
    }
    return values, _text(values, found), fits


def _rows(recipe: Recipe, shares: int) -> int:
    return -(-recipe.evaluate.batch_rows // shares) * shares


def _student(recipe: Recipe) -> Student:
    """The student without its weights, and where its vocabulary is given, without the task."""
    settings = recipe.own_student
    if settings.scratch is None or settings.tokenizer is not None:
        return load_student(settings)
    if "vocab_size" in settings.scratch:
        return load_student(settings, ["word"])
    return Place(epath.Path(recipe.folder), _silent).student(recipe)


def _jobs(recipe: Recipe, specs: Sequence[TrialRecipe]) -> list[Job]:
    """The first pool's trials, if an earlier run has made their records; else none."""
    if "://" in recipe.folder or not epath.Path(recipe.folder).exists():
        return []
    try:
        jobs = prepare(_Looking(epath.Path(recipe.folder).absolute(), _silent), specs)
        return next(iter(groups(jobs).values()))
    except FtcotError:  # some stage has not been there yet
        return []


class _Looking(Place):
    """A run's folder in which nothing is made."""

    @property
    def store(self) -> Store:  # type: ignore[override]
        return Store(self.folder / "artifacts", self.say, number=1)  # a process that only finds what number 0 made


def _silent(line: str) -> None:
    pass


def _from_records(jobs: Sequence[Job], student: Student, shares: int, slots: int) -> Batches:
    """As the pool would choose them; a step has the cheapest shape that all its slots fit."""
    tables = {job.records.artifact.address: job.records.table for job in jobs}
    offsets, total = {}, 0
    for name, one in tables.items():
        offsets[name], total = total, total + len(one)
    table = RecordTable.join(list(tables.values()))
    data = [job.data.moved(offsets[job.records.artifact.address]) for job in jobs]
    train = jobs[0].spec.recipe.train
    planner = Planner.for_trials(
        table,
        data,
        width=jax.eval_shape(student.head, student.shapes).shape[1],
        slots=slots,
        kind=student.kind,
        row_multiple=shares,
        microbatches=max(job.spec.recipe.train.microbatches for job in jobs),
        share_questions=train.batch.share_questions,
    )
    seated = [data[slot % len(data)] for slot in range(slots)]
    steps = range(0, min(_SAMPLED_STEPS, min(one.steps_in(0) for one in data)))
    shapes = [planner.together([one.at(step) for one in seated[:_SAMPLED_STEPS]])[1] for step in steps]
    usual = collections.Counter(shapes).most_common(1)[0][0]
    typical = data[0].at(0)
    return Batches(
        usual,
        max(planner.shapes, key=lambda shape: _held(student, shape)),
        planner.sizes.lengths[typical],
        planner.sizes.labels[typical],
        len(table),
        int(table.lengths.sum()),
        f"the run's own {len(table)} records",
    )


def _held(student: Student, shape: BatchShape) -> float:
    """Bytes that the backward pass keeps of a batch, about: long rows have many scores, others more places."""
    compute, width = student.compute, jax.eval_shape(student.head, student.shapes).shape[1]
    of_token = [
        activation_bytes(student.shapes_by_path, width, length, compute.dtype, compute.remat, compute.attention)
        for length in shape.room
    ]
    return shape.rows * sum(length * each for length, each in zip(shape.room, of_token, strict=True))


def _assumed(recipe: Recipe, student: Student, shares: int, record_tokens: int, label_tokens: int) -> Batches:
    """From the batch settings, for records of one length."""
    if not 0 < label_tokens < record_tokens:
        raise UsageError(f"--label-tokens {label_tokens}: must be below --record-tokens {record_tokens}")
    if record_tokens > student.context_length:
        label_tokens = max(1, label_tokens * student.context_length // record_tokens)
        record_tokens = student.context_length
    batch, micro = recipe.train.batch, recipe.train.microbatches
    decoder = student.kind == "decoder"
    parts = (record_tokens,) if decoder else (label_tokens, record_tokens - label_tokens + 1)
    if batch.tokens is None:
        examples, per_row = batch.examples or PAPER_EXAMPLES, 2
    else:
        per_row = max(1, batch.row_length // max(parts))
        examples = max(1, batch.tokens // (per_row * sum(parts))) * per_row
    rows = _up(-(-examples // per_row), shares * micro)
    lengths = [_up(per_row * part, 16) for part in parts]
    shape = BatchShape(
        rows,
        lengths[0],
        _up(examples * label_tokens, 64 * micro),
        examples,
        0 if decoder else lengths[1],
        micro,
        batch.share_questions,
    )
    source = f"no records yet: assumed are {record_tokens} tokens each, {label_tokens} of them labels"
    ones = np.ones(examples, int)
    return Batches(
        shape,
        shape,
        np.stack([ones * part for part in parts], 1),
        ones * label_tokens,
        2000,
        2000 * record_tokens,
        source,
    )


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _head(setup: Setup, place: Topology, batches: Batches) -> dict[str, Any]:
    shape = setup.shape
    return {
        "topology": place.name,
        "devices": len(place.devices),
        "device_kind": place.devices[0].device_kind,
        "mesh": {axis: int(size) for axis, size in setup.mesh.shape.items()},
        "slots": setup.slots,
        "executor": setup.executor,
        "batch": dataclasses.asdict(shape),
        "lengths": batches.source,
        "jax": jax.__version__,
        "compiler": _compiler(place),
    }


def _compiler(place: Topology) -> str:
    if place.chip is None:
        return "jaxlib " + jax.lib.__version__
    import importlib.metadata

    return "libtpu " + importlib.metadata.version("libtpu")


def _bound(setup: Setup, step: Figures, batches: Batches, peak: float | None) -> dict[str, Any] | None:
    """The best that the step can reach on the chip, and how its arithmetic compares with the model's own."""
    if step.cost is None:
        return None
    student = setup.student
    model = StepFlops.of(student.shapes_by_path, jax.eval_shape(student.head, student.shapes).shape)
    needed = setup.slots * model.total(batches.lengths, batches.labels)
    done = step.cost.flops * setup.mesh.size
    bound: dict[str, Any] = {"model_flops": needed, "compiled_flops": done, "compiled_over_model": done / needed}
    if step.roofline is not None and peak is not None:
        seconds = step.roofline.seconds
        bound |= {
            "step_seconds_at_least": seconds,
            "mfu_at_most": needed / (seconds * peak * setup.mesh.size),
            "examples_per_second_at_most": setup.slots * len(batches.labels) / seconds,
        }
    return bound


def _text(values: dict[str, Any], found: Sequence[Figures]) -> str:
    mesh = ", ".join(f"{axis} {size}" for axis, size in values["mesh"].items())
    batch = values["batch"]
    source = f" and {batch['source_length']}" if batch["source_length"] else ""
    lines = [
        f"{values['topology']}: {values['devices']} x {values['device_kind']}; mesh: {mesh}; "
        f"{values['slots']} slots ({values['executor']}); jax {values['jax']}, {values['compiler']}",
        f"batch of a slot: {batch['rows']} rows of {batch['length']}{source} tokens, "
        f"room for {batch['labels']} labels, {batch['microbatches']} microbatches ({values['lengths']})",
        "",
    ]
    for one in found:
        lines += as_lines(one)
    if (bound := values["bound"]) is not None:
        lines.append(
            f"the step's arithmetic: {bound['compiled_flops'] / 1e12:.3f} TFLOP compiled, "
            f"{bound['model_flops'] / 1e12:.3f} needed by the model's real tokens: "
            f"{bound['compiled_over_model']:.3f} times (padding, masked attention, remat)"
        )
        if "mfu_at_most" in bound:
            lines.append(
                f"at best: MFU {100 * bound['mfu_at_most']:.1f}%, {bound['examples_per_second_at_most']:.0f} examples/s"
            )
    return "\n".join([*lines, *(f"advice: {tip}" for tip in values["advice"])])
