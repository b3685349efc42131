"""A compiled program's figures on a chip: does it fit, what does it do, and how fast could it go at best."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

import jax

from ftcot_jax.bench.compile_chips import GIB, Chip
from ftcot_jax.bench.compile_cost import Collective, Cost, cost_of
from ftcot_jax.bench.compile_hlo import Program
from ftcot_jax.bench.compile_programs import DoesNotFit, compile_lowered

RESERVED = 0.25 * GIB
"""Bytes that the compiler keeps for itself: of a v5e's 16 GiB it hands out 15.75."""


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes on each device, by kind; `aliased` are outputs that take an argument's place."""

    arguments: int
    outputs: int
    aliased: int
    temporaries: int
    code: int

    @classmethod
    def of(cls, compiled: jax.stages.Compiled) -> Memory:
        stats: Any = compiled.memory_analysis()
        return cls(
            stats.argument_size_in_bytes,
            stats.output_size_in_bytes,
            stats.alias_size_in_bytes,
            stats.temp_size_in_bytes,
            stats.generated_code_size_in_bytes,
        )

    @property
    def total(self) -> int:
        return self.arguments + self.outputs - self.aliased + self.temporaries + self.code


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Seconds that one run takes at least: each is what its part needs at the chip's peak, and all may overlap."""

    compute: float
    memory: float
    interconnect: float

    @property
    def seconds(self) -> float:
        return max(self.compute, self.memory, self.interconnect)

    @property
    def limit(self) -> str:
        """Which part it is."""
        return max(dataclasses.asdict(self).items(), key=lambda item: item[1])[0]


@dataclasses.dataclass(frozen=True)
class Figures:
    """Of one program on one device.

    Attributes:
      name: what the program is for.
      seconds: that compiling took.
      memory: None where there was no room for it.
      needed: bytes it needs; where the compiler gave up, as far as it said.
      room: bytes it may have; None where nobody knows.
      cost: None where there was no room.
      roofline: None where the chip is not known.
      estimate: the compiler's own seconds, where it is worth showing; see `compiler_seconds`.
      program: None where there was no room.
    """

    name: str
    seconds: float
    memory: Memory | None
    needed: float
    room: float | None
    cost: Cost | None
    roofline: Roofline | None
    estimate: float | None
    program: Program | None = dataclasses.field(default=None, repr=False)

    @property
    def fits(self) -> bool:
        return self.memory is not None and (self.room is None or self.needed <= self.room)


def figures_of(
    name: str, lowered: jax.stages.Lowered, axes: Mapping[str, int], chip: Chip | None, peak: float | None
) -> Figures:
    """Compiles a program and reads what came out.

    Args:
      name: what it is for.
      lowered: the program.
      axes: the mesh's sizes by name.
      chip: what a device has; None where nobody knows.
      peak: operations a second of one device; None where nobody knows.
    """
    began = time.monotonic()
    room = None if chip is None else chip.memory - RESERVED
    try:
        compiled = compile_lowered(lowered)
    except DoesNotFit as error:
        return Figures(name, time.monotonic() - began, None, error.needed, error.room, None, None, None, None)
    seconds = time.monotonic() - began
    memory, program = Memory.of(compiled), Program.parse(compiled.as_text() or "")
    cost = cost_of(program, axes)
    roofline = None
    if chip is not None and peak is not None:
        roofline = Roofline(cost.flops / peak, cost.bytes / chip.bandwidth, cost.wire / chip.interconnect)
    estimate = compiler_seconds(compiled, roofline)
    return Figures(name, seconds, memory, memory.total, room, cost, roofline, estimate, program)


def compiler_seconds(compiled: jax.stages.Compiled, roofline: Roofline | None) -> float | None:
    """The compiler's own estimate of a run; None unless it can be true.

    It counts a loop's body once and comes out negative for programs as large as a train step: whatever is below the
    time that the arithmetic alone takes is not shown.
    """
    analysis: Any = compiled.cost_analysis()
    first = analysis[0] if isinstance(analysis, list) else analysis
    seconds = float((first or {}).get("optimal_seconds", -1.0))
    return seconds if roofline is not None and seconds >= roofline.compute > 0 else None


def grouped(collectives: tuple[Collective, ...]) -> list[tuple[str, str, float, float, float]]:
    """Collectives by kind and axes, what receives most first: (kind, axes, runs, bytes received, overlapped bytes)."""
    sums: dict[tuple[str, str], list[float]] = {}
    for one in collectives:
        total = sums.setdefault((one.kind, one.axes), [0.0, 0.0, 0.0])
        total[0] += one.count
        total[1] += one.count * one.wire
        total[2] += one.count * one.wire * one.overlapped
    rows = [(kind, axes, total[0], total[1], total[2]) for (kind, axes), total in sums.items()]
    return sorted(rows, key=lambda row: -row[3])


def as_json(figures: Figures) -> dict[str, Any]:
    """The figures as JSON values."""
    cost, roofline = figures.cost, figures.roofline
    return {
        "program": figures.name,
        "compile_seconds": round(figures.seconds, 1),
        "fits": figures.fits,
        "needed_bytes": int(figures.needed),
        "room_bytes": None if figures.room is None else int(figures.room),
        "memory_bytes": None if figures.memory is None else dataclasses.asdict(figures.memory),
        "flops": None if cost is None else cost.flops,
        "bytes": None if cost is None else cost.bytes,
        "loops_of_unknown_length": None if cost is None else cost.unknown_loops,
        "collectives": None
        if cost is None
        else [
            {"kind": kind, "axes": axes, "runs": int(runs), "bytes": wire, "overlapped_bytes": hidden}
            for kind, axes, runs, wire, hidden in grouped(cost.collectives)
        ],
        "roofline_seconds": None if roofline is None else dataclasses.asdict(roofline),
        "compiler_seconds": figures.estimate,
    }


def too_much(figures: Figures) -> str:
    """Says of a program without room how much it lacks."""
    room = figures.room or 0.0
    atleast = "at least " if figures.memory is None else ""
    return (
        f"the {figures.name} needs {atleast}{figures.needed / GIB:.2f} GiB a device and {room / GIB:.2f} are there: "
        f"{atleast}{(figures.needed - room) / GIB:.2f} too much"
    )


def as_lines(figures: Figures) -> list[str]:
    """The figures for a person."""
    over = "" if figures.room is None else f" of {figures.room / GIB:.2f}"
    if figures.memory is None or figures.cost is None:
        return [f"{figures.name}: DOES NOT FIT: {too_much(figures)}"]
    memory, cost = figures.memory, figures.cost
    parts = ", ".join(f"{name} {value / GIB:.3f}" for name, value in dataclasses.asdict(memory).items())
    verdict = "" if figures.fits else f": DOES NOT FIT, {(figures.needed - (figures.room or 0)) / GIB:.2f} too much"
    once = "" if not cost.unknown_loops else ", of one turn of a loop that runs until the texts end"
    lines = [
        f"{figures.name} (compiled in {figures.seconds:.0f} s), each device:",
        f"  memory  {memory.total / GIB:.3f}{over} GiB ({parts}){verdict}",
        f"  work    {cost.flops / 1e9:.2f} GFLOP, {cost.bytes / 1e9:.3f} GB of memory moved{once}",
    ]
    if cost.hidden_flops:
        lines[-1] += f"; {cost.hidden_flops / 1e9:.2f} GFLOP of it as kernels tell"
    if not cost.collectives:
        lines.append("  talk    none: no collective between devices")
    for kind, axes, runs, wire, hidden in grouped(cost.collectives):
        share = 100 * hidden / wire if wire else 0
        lines.append(
            f"  talk    {runs:.0f} {kind} over {axes}: {wire / 1e6:.3f} MB received, {share:.0f}% while computing"
        )
    if figures.roofline is not None:
        at = figures.roofline
        lines.append(
            f"  time    {1e3 * at.seconds:.3f} ms at least, limited by {at.limit} (compute {1e3 * at.compute:.3f}, "
            f"memory {1e3 * at.memory:.3f}, interconnect {1e3 * at.interconnect:.3f} ms at the chip's peaks)"
        )
        if figures.estimate is not None:
            lines.append(f"  the compiler's own estimate: {1e3 * figures.estimate:.3f} ms")
    return lines
