"""The table of ``ftcot bench train``: what was measured, held against what the machine can do."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from ftcot_jax.bench.figure import Figure
from ftcot_jax.bench.machine import Machine
from ftcot_jax.bench.table import markdown
from ftcot_jax.bench.timed_step import Needed
from ftcot_jax.training.clock import Part


@dataclasses.dataclass(frozen=True)
class TrainFound:
    """What was measured.

    Attributes:
      machine: limits of one device.
      devices: whose limits add up; 1 for a CPU, whatever its virtual devices.
      needed: by the steps of a repeat.
      seconds: of each step of each repeat.
      compile_seconds: of each batch shape.
      warm_up_seconds: of the first step of each shape.
      peak: bytes of memory, and whose.
      step_memory: bytes on a device of the largest step, as compiled.
      spent: seconds of the short run by what they went for.
    """

    machine: Machine
    devices: int
    needed: Needed
    seconds: Sequence[Sequence[float]]
    compile_seconds: Sequence[float]
    warm_up_seconds: Sequence[float]
    peak: tuple[int, str]
    step_memory: int
    spent: Mapping[Part, float]


def train_rows(found: TrainFound) -> list[Figure]:
    """The rows, rates over the repeats."""
    needed, totals = found.needed, [sum(repeat) for repeat in found.seconds]
    steps, flops, least = len(found.seconds[0]), needed.flops, needed.least
    most = found.machine.flops * found.devices
    speeds = None if flops is None else [flops / total for total in totals]
    wall = sum(found.spent.values())
    return [
        Figure.of("examples/s", [needed.examples / total for total in totals]),
        Figure.of("tokens/s, padding left out", [needed.tokens / total for total in totals]),
        Figure.of("ms a step of all slots", [1e3 * total / steps for total in totals]),
        Figure.of("GFLOP/s that the model needs", None if speeds is None else [speed / 1e9 for speed in speeds]),
        Figure.of("MFU, of the product measured", None if speeds is None else [speed / most for speed in speeds]),
        Figure.of("share of the roofline", None if least is None else [least / total for total in totals]),
        Figure.once("share of padding in what is computed", 1 - needed.tokens / needed.places),
        Figure.once("limit: GFLOP/s of a large product", most / 1e9),
        Figure.once("limit: GB/s of main memory", found.machine.bandwidth * found.devices / 1e9),
        Figure.once("GFLOP a step that the model needs", None if flops is None else flops / steps / 1e9),
        Figure.once("GB a step of main memory moved", needed.moved / steps / 1e9),
        Figure.once("s to compile", sum(found.compile_seconds)),
        Figure.once("s of the first step of each shape", sum(found.warm_up_seconds)),
        Figure.once(f"GB of memory at its peak, {found.peak[1]}", found.peak[0] / 1e9),
        Figure.once("GB of memory of the step, as compiled", found.step_memory / 1e9),
        *(Figure.once(f"share of a short run: {part}", seconds / wall) for part, seconds in found.spent.items()),
        Figure.once("s of that run", wall),
    ]


def train_json(facts: dict[str, Any], found: TrainFound, rows: Sequence[Figure]) -> dict[str, Any]:
    """The table, and what it was made of."""
    return {
        **facts,
        "rows": [row.as_json() for row in rows],
        "needed": dataclasses.asdict(found.needed),
        "step_seconds": [list(repeat) for repeat in found.seconds],
        "compile_seconds": list(found.compile_seconds),
        "warm_up_seconds": list(found.warm_up_seconds),
        "peak_bytes": found.peak[0],
        "step_memory_bytes": found.step_memory,
        "spent_seconds": dict(found.spent),
        "limit_flop_per_second": found.machine.flops * found.devices,
        "limit_bytes_per_second": found.machine.bandwidth * found.devices,
    }


def train_table(rows: Sequence[Figure]) -> str:
    """For a person."""
    return markdown([row.as_row() for row in rows])
