"""What to set so that a step fits and goes faster: slots by a line through two compiled programs, parts, remat."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from ftcot_jax.bench.compile_chips import GIB
from ftcot_jax.bench.compile_figures import Figures
from ftcot_jax.bench.compile_programs import Setup

_MOST_COMPILES = 3


def advise(setup: Setup, here: Figures, compile_step: Callable[[Setup], Figures]) -> list[str]:
    """What to set, one line each.

    Args:
      setup: as it was compiled.
      here: its train step's figures.
      compile_step: compiles the train step of another setup.
    """
    return [*_slots(setup, here, compile_step), *_stores_less(setup, here)]


def _stores_less(setup: Setup, here: Figures) -> list[str]:
    remat = setup.student.compute.remat
    if here.roofline is None or here.roofline.limit != "memory" or remat not in ("none", "cheap"):
        return []
    less = {"none": "38%", "cheap": "25%"}[remat]
    return [
        f"memory limits the step, and student.remat={remat} stores attention's weights and more: try "
        f"student.remat=dots, with which GPT-2 on a v5e moves {less} less for 2% more arithmetic"
    ]


def _slots(setup: Setup, here: Figures, compile_step: Callable[[Setup], Figures]) -> list[str]:
    """What to set train.slots to, or what else makes room."""
    shards = setup.mesh.shape["trial"]
    each = setup.slots // shards
    if here.fits:
        other = 1 if each > 1 else 2
        there = compile_step(dataclasses.replace(setup, slots=other * shards))
        most = most_slots({each: here, other: there})
        if most is None and there.fits:
            return [f"train.slots={setup.slots} fits; {other * shards} need as much memory, so the most cannot be told"]
        if most is None:
            return [f"train.slots={setup.slots} fits; {other * shards} slots do not"]
        return [
            f"train.slots={most * shards} is the most that fits ({most} a chip along trial), by a line through the "
            f"compiled {min(each, other) * shards} and {max(each, other) * shards}"
        ]
    if each > 1:
        one = compile_step(dataclasses.replace(setup, slots=shards))
        if one.fits:
            two = compile_step(dataclasses.replace(setup, slots=2 * shards)) if each > 2 else here
            most = most_slots({1: one, 2: two}) or 1
            return [f"set train.slots={most * shards} ({most} a chip along trial), by a line through compiled programs"]
        setup = dataclasses.replace(setup, slots=shards)
    return [_smaller_parts(setup, compile_step)]


def most_slots(figures: dict[int, Figures]) -> int | None:
    """The most slots a chip that a line through two programs' memory says fit; None where one did not compile, or more
    slots need no more memory."""
    (few, small), (many, large) = sorted(figures.items())
    if small.memory is None or large.memory is None or small.room is None:
        return None
    slope = (large.needed - small.needed) / (many - few)
    return max(1, int(few + (small.room - small.needed) / slope)) if slope > 0 else None


def _smaller_parts(setup: Setup, compile_step: Callable[[Setup], Figures]) -> str:
    """For a single slot that does not fit: microbatches that make it fit, or what else there is."""
    shape, shares = setup.shape, setup.mesh.shape["data"] * setup.mesh.shape["fsdp"]
    for _ in range(_MOST_COMPILES):
        parts = 2 * shape.microbatches
        if shape.rows % (parts * shares):
            break
        shape = dataclasses.replace(shape, microbatches=parts, labels=-(-shape.labels // (64 * parts)) * 64 * parts)
        figures = compile_step(dataclasses.replace(setup, shape=shape))
        if figures.fits:
            return (
                f"set train.slots={setup.slots} train.microbatches={parts}: compiled, it needs "
                f"{figures.needed / GIB:.2f} GiB"
            )
    free = setup.mesh.shape["trial"] > 1
    more = f"mesh.fsdp=2 with mesh.trial={setup.mesh.shape['trial'] // 2}" if free else "a larger pod for mesh.fsdp"
    return f"one slot does not fit, nor smaller parts of its batch: set student.remat=full, or {more}"
