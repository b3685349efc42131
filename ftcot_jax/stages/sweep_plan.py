"""The plan of a sweep: nothing is bought, trained or written; what is known is said, and so is what is not."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence

import jax

from ftcot_jax.config import Recipe, TrialRecipe
from ftcot_jax.stages.data import purchases
from ftcot_jax.stages.evaluate import find_scores, selected_step
from ftcot_jax.stages.groups import program_of_rows, slots
from ftcot_jax.stages.place import Place, run_folder
from ftcot_jax.stages.plan_facts import (
    EXEMPLAR_TOKENS,
    NO_QUESTIONS,
    QUESTION_TOKENS,
    FactFinder,
    Facts,
    LookingPlace,
    student_name,
)
from ftcot_jax.stages.trials import find_student
from ftcot_jax.students.student import Student
from ftcot_jax.sweeps.devices import Device
from ftcot_jax.sweeps.plan import Count, GroupPlan, How, State, SweepPlan, TrialPlan
from ftcot_jax.sweeps.plan_work import activation_bytes, training_seconds, tree_bytes, writing_seconds
from ftcot_jax.tasks.templates import get_template
from ftcot_jax.training.flops import StepFlops
from ftcot_jax.training.optimizer import Hyper
from ftcot_jax.training.settings import MeshSettings
from ftcot_jax.training.step import new_state

_SURE: tuple[How, ...] = ("exact", "about", "at most")
_UNEVEN = 1.25  # the fullest batch's tokens against the mean's, and room that packing leaves
_ROW = 1.5  # a row against the longest record, about, where no row length is set


@dataclasses.dataclass
class _Speed:
    """What finished trials took, summed: their wall seconds outside scoring and operations; texts and seconds."""

    training: float = 0.0
    flops: float = 0.0
    scoring: float = 0.0
    texts: int = 0

    def add(self, other: _Speed) -> None:
        for field in dataclasses.fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


@dataclasses.dataclass(frozen=True, eq=False)
class _Work:
    """One trial's work.

    Attributes:
      facts: of it.
      state: how far it is.
      flops: of all its steps; None where nothing is trained, or nobody knows.
      spent: what it took, if it is done on devices as planned for.
      plan: its row.
    """

    facts: Facts
    state: State
    flops: float | None
    spent: _Speed
    plan: TrialPlan


def plan_sweep(
    recipe: Recipe, specs: Sequence[TrialRecipe], device: Device, utilisation: float, price: float | None = None
) -> SweepPlan:
    """Plans a recipe's trials on a device.

    Args:
      recipe: as written.
      specs: its trials.
      device: what they will run on.
      utilisation: share of the device's arithmetic, and of its bandwidth when answers are written, that is assumed
        to be used where no finished trial tells.
      price: US dollars a device and hour, in place of the table's.

    Raises:
      FtcotError: a setting, or a file that is here, is wrong, so that the recipe could not run.
    """
    place = LookingPlace(run_folder(recipe), lambda line: None)
    finder = FactFinder(place)
    names: dict[str, int] = {}
    works = []
    for number, spec in enumerate(specs, 1):
        facts = finder.of(spec)
        planned = facts.trains and facts.student is not None
        group = names.setdefault(_program(facts), len(names) + 1) if planned else None
        works.append(_work(place, number, facts, group, device))
    members = {number: [work for work in works if work.plan.group == number] for number in names.values()}
    whole = _Speed()
    for work in works:
        whole.add(work.spent)
    groups = [_group(number, group, device, utilisation, whole) for number, group in members.items()]
    untrained = [work for work in works if not work.facts.trains and work.facts.spec.recipe.api_student is None]
    return SweepPlan(
        name=recipe.name,
        out=str(place.folder),
        product=recipe.sweep.product,
        trials=[work.plan for work in works],
        groups=groups,
        device=device.name,
        devices=device.count,
        device_bytes=device.memory,
        price=device.price if price is None else price,
        spot=device.spot if price is None else None,
        asking_seconds=_scoring(untrained, device, utilisation, whole) if untrained else 0.0,
        teacher=_teacher(place, specs, works),
        unknown=_unknown(works),
        assumed=_assumed(works, groups, device, utilisation),
    )


def _work(place: Place, number: int, facts: Facts, group: int | None, device: Device) -> _Work:
    recipe = facts.spec.recipe
    state: State = "to do"
    spent, flops = _Speed(), None
    if facts.trains and facts.student is not None and facts.lengths is not None and facts.records is not None:
        operations = _operations(facts.student)
        sample = operations.total(facts.lengths.parts_NxP, facts.lengths.labels_N)
        flops = sample / len(facts.lengths.labels_N) * facts.records.value * facts.epochs
    job = facts.job
    if job is not None:
        student = find_student(place, job) if job.trains else None
        step = selected_step(place, job)
        scores = None if step is None else find_scores(place, job, step)
        if scores is not None and (student is not None or not job.trains):
            state = "scored"
            summary = scores.manifest["summary"]
            spent.scoring, spent.texts = summary["seconds"], summary["texts"]
        elif student is not None:
            state = "trained"
        if student is not None and flops is not None:
            summary = student.manifest["summary"]
            count, _, kind = summary["device"].partition(" x ")
            if device.has_kind(kind) and (device.backend == "cpu" or int(count) == device.count):
                spent.training = summary["seconds"] - summary["spent"].get("evaluate", 0.0)
                spent.flops = flops
            else:
                spent.scoring, spent.texts = 0.0, 0
    template = get_template(recipe.template)
    plan = TrialPlan(
        number=number,
        name=facts.spec.name,
        arm=facts.spec.arm,
        task=recipe.task.key,
        student=student_name(recipe),
        template=template.name,
        diversity=recipe.select.diversity if template.has_rationale else None,
        questions=facts.questions,
        asked=facts.asked,
        seed=recipe.train.seed,
        records=facts.records,
        steps=facts.steps,
        state=state,
        group=group,
    )
    return _Work(facts, state, flops, spent, plan)


def _program(facts: Facts) -> str:
    """As training groups trials; rows of a budget of tokens are taken to come out alike where they are not known."""
    recipe, rows = facts.spec.recipe, None
    assert facts.student is not None  # asked of students whose shapes are known
    if recipe.train.batch.tokens is not None:
        budget = None if facts.job is None else facts.job.data.budget
        known = budget is not None
        rows = (budget.rows, budget.room) if known and budget else (recipe.train.batch.tokens, "not known yet")
    return program_of_rows(recipe.train, facts.student, rows)


def _group(number: int, works: Sequence[_Work], device: Device, utilisation: float, whole: _Speed) -> GroupPlan:
    recipe, student = works[0].facts.spec.recipe, works[0].facts.student
    assert student is not None
    axes = _axes(recipe.mesh, device.count)
    side_by_side = slots(recipe.train, student, len(works), axes, device.backend, device.memory)
    todo = [work for work in works if work.state == "to do"]
    own = _Speed()
    for work in works:
        own.add(work.spent)
    seconds, speed_from = _training(todo, device, utilisation, own, whole, side_by_side, student.compute.dtype)
    state, working = _bytes(works, student, axes, side_by_side, device)
    fitting = side_by_side
    while (
        device.memory and fitting > axes["trial"] and sum(_bytes(works, student, axes, fitting, device)) > device.memory
    ):
        fitting -= axes["trial"]
    return GroupPlan(
        number=number,
        student=works[0].plan.student,
        trials=len(works),
        done=len(works) - len(todo),
        slots=side_by_side,
        fitting_slots=fitting,
        steps=_sum([work.facts.steps for work in todo]),
        seconds=seconds,
        scoring_seconds=_scoring(works, device, utilisation, own if own.texts else whole),
        speed_from=speed_from,
        state_bytes=state,
        working_bytes=working,
    )


def _sum(counts: Sequence[Count | None]) -> Count | None:
    known = [count for count in counts if count is not None]
    if len(known) < len(counts):
        return None
    return Count(
        sum(count.value for count in known), max((count.how for count in known), key=_SURE.index, default="exact")
    )


def _training(
    todo: Sequence[_Work], device: Device, utilisation: float, own: _Speed, whole: _Speed, side_by_side: int, dtype: str
) -> tuple[float | None, str]:
    """Seconds, and what they are reckoned from; a finished trial's wall time is that of all its neighbours' too."""
    flops = [work.flops for work in todo]
    known = [count for count in flops if count is not None]
    if not todo:
        return 0.0, "-"
    if len(known) < len(flops):
        return None, "not known"
    for speed, name in ((own, "its finished trials"), (whole, "the folder's finished trials")):
        if speed.flops:
            return sum(known) * speed.training / speed.flops / side_by_side, name
    steps = sum(work.facts.steps.value for work in todo if work.facts.steps is not None)
    seconds = training_seconds(sum(known), steps / side_by_side, device, dtype, utilisation)
    return seconds, "not known" if seconds is None else f"{100 * utilisation:g}% of the peak"


def _scoring(works: Sequence[_Work], device: Device, utilisation: float, speed: _Speed) -> float | None:
    total = 0.0
    for work in works:
        if work.state == "scored":
            continue
        texts, facts = work.facts.texts, work.facts
        if not texts:
            return None
        if speed.texts:
            total += texts * speed.scoring / speed.texts
            continue
        if facts.student is None:
            return None
        seconds = _writing(facts, texts, device, utilisation)
        if seconds is None:
            return None
        total += seconds
    return total


def _writing(facts: Facts, texts: int, device: Device, utilisation: float) -> float | None:
    recipe, student = facts.spec.recipe, facts.student
    assert student is not None
    template = get_template(recipe.template)
    asked = QUESTION_TOKENS + EXEMPLAR_TOKENS * template.needs_exemplars
    written: float = recipe.evaluate.most_new_tokens(template) or recipe.evaluate.max_length
    written *= 2 if template.answer_form is not None else 1
    if facts.lengths is not None:
        written = min(written, float(facts.lengths.labels_N.mean()))
        asked = round(float(facts.lengths.parts_NxP.sum(1).mean() - facts.lengths.labels_N.mean()))
    operations = _operations(student)
    prompt = max(operations.source, operations.text) * asked / 3  # of training's passes, the forward one
    weights = sum(
        math.prod(leaf.shape) for path, leaf in student.shapes_by_path.items() if not path.startswith("encoder/")
    )
    return writing_seconds(
        texts, written, recipe.evaluate.batch_rows, weights, prompt, device, student.compute.dtype, utilisation
    )


def _bytes(
    works: Sequence[_Work], student: Student, axes: Mapping[str, int], side_by_side: int, device: Device
) -> tuple[int, int]:
    """Bytes on one device: of state, exactly, and of gradients and activations, about."""
    recipe = works[0].facts.spec.recipe
    frozen, trained = student.split(student.shapes)
    split, here = axes["fsdp"] * axes["tensor"], math.ceil(side_by_side / axes["trial"])
    one = tree_bytes(jax.eval_shape(new_state, trained, Hyper.of(recipe.train, 1)))
    state = (tree_bytes(frozen) + here * one) // split
    at_once = 1 if device.backend == "cpu" else here
    tokens = row = 0.0
    for work in works:
        lengths, batch = work.facts.lengths, work.facts.spec.recipe.train.batch
        if lengths is not None:
            row = max(row, batch.row_length if batch.tokens else _ROW * int(lengths.parts_NxP.max()))
            tokens = max(
                tokens, batch.tokens or (batch.examples or 8) * float(lengths.parts_NxP.sum(1).mean()) * _UNEVEN
            )
    tokens /= axes["data"] * axes["fsdp"] * max(work.facts.spec.recipe.train.microbatches for work in works)
    compute = student.on(device.backend).compute
    per_token = activation_bytes(
        student.shapes_by_path, _head(student)[1], row, compute.dtype, compute.remat, compute.attention
    )
    return state, int(at_once * (tree_bytes(trained) / split + tokens * per_token / axes["tensor"]))


@functools.lru_cache(maxsize=64)
def _operations(student: Student) -> StepFlops:
    return StepFlops.of(student.shapes_by_path, _head(student))


@functools.lru_cache(maxsize=64)
def _head(student: Student) -> tuple[int, ...]:
    shape: tuple[int, ...] = jax.eval_shape(student.head, student.shapes).shape
    return shape


def _axes(mesh: MeshSettings, devices: int) -> dict[str, int]:
    """The mesh's axes; one that is -1 takes the devices left."""
    sizes = {name: getattr(mesh, name) for name in ("trial", "data", "fsdp", "tensor")}
    fixed = math.prod(size for size in sizes.values() if size > 0)
    return {name: size if size > 0 else max(1, devices // fixed) for name, size in sizes.items()}


def _teacher(place: Place, specs: Sequence[TrialRecipe], works: Sequence[_Work]) -> dict[str, float | None]:
    """Purchases still to be made, by name; a teacher of ours on this machine costs nothing."""
    asking = [
        spec.recipe
        for spec, work in zip(specs, works, strict=True)
        if spec.recipe.teacher is not None
        and spec.recipe.teacher.loopback is None
        and not spec.recipe.teacher.import_path
        and get_template(spec.recipe.template).has_rationale
        and work.facts.split is not None
        and not any(line.why == NO_QUESTIONS for line in work.facts.unknown)
    ]
    return {name: bought.cost for name, bought in purchases(place, asking).items()}


def _unknown(works: Sequence[_Work]) -> list[str]:
    """A line a reason."""
    found: dict[str, dict[str, None]] = {}
    for work in works:
        for what, why in work.facts.unknown:
            found.setdefault(why, {})[what] = None
    return [f"{', '.join(subjects)}: {why}" for why, subjects in found.items()]


def _assumed(works: Sequence[_Work], groups: Sequence[GroupPlan], device: Device, utilisation: float) -> list[str]:
    lines = []
    if any("peak" in group.speed_from for group in groups):
        lines.append(
            f"{100 * utilisation:g}% of the device's arithmetic in training, and of its bandwidth in writing "
            "(--utilisation); finished trials in this folder replace it; compilation comes on top"
        )
    lines.append(
        "answers are as long as the labels, of untrained students as long as allowed; one device writes them, "
        "however many train"
    )
    if device.price is not None:
        lines.append("device prices are from memory, 2026-11 (--price)")
    if any(work.facts.records is not None and work.facts.job is None for work in works):
        lines.append("~ is reckoned from a sample of texts or the paper's yields; <= if every rationale were right")
    if groups:
        lines.append("memory: weights and moments are exact; + gradients and activations, about")
    return lines
