"""What a compiled program does on each device: arithmetic, bytes of main memory moved, and talk between devices."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from ftcot_jax.bench.compile_hlo import Array, Computation, Instruction, Program

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "ragged-all-to-all")
_FREE = {
    "parameter", "get-tuple-element", "tuple", "bitcast", "constant", "while", "conditional", "call", "after-all",
    "opt-barrier", "partition-id", "replica-id", "domain", "async-update",
}  # fmt: skip
_PARTS = ("dynamic-slice", "slice", "gather")


@dataclasses.dataclass(frozen=True)
class Collective:
    """Talk between devices at one place of the program.

    Attributes:
      kind: of `KINDS`.
      axes: mesh axes along which it talks, joined by "+"; "none" where nobody talks to another.
      count: how often it runs.
      payload: bytes of the result, of one run on one device.
      wire: bytes that one device receives, of one run.
      overlapped: whether the program computes while it is under way.
      where: of the source it comes from.
    """

    kind: str
    axes: str
    count: float
    payload: float
    wire: float
    overlapped: bool
    where: str


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one run of a program, on one device.

    Attributes:
      flops: operations of matrix products, as compiled.
      hidden_flops: those of kernels, as they tell of themselves; in `flops`.
      bytes: moved to and from main memory, padding included.
      collectives: see there.
      unknown_loops: loops counted once, because their turns depend on data.
    """

    flops: float
    hidden_flops: float
    bytes: float
    collectives: tuple[Collective, ...]
    unknown_loops: int

    @property
    def wire(self) -> float:
        """Bytes that a device receives from others."""
        return sum(one.count * one.wire for one in self.collectives)

    def overlapped_share(self) -> float | None:
        """Share of those bytes that travel while the program computes; None where there are none."""
        hidden = sum(one.count * one.wire for one in self.collectives if one.overlapped)
        return hidden / self.wire if self.wire else None


def cost_of(program: Program, axes: Mapping[str, int]) -> Cost:
    """Adds a program up.

    Args:
      program: what was compiled.
      axes: the mesh's sizes by name, in its order.
    """
    flops = kernels = 0.0
    found: dict[str, Collective] = {}
    for name, instruction, times in program.runs():
        own, told = _flops(program, program.computations[name], instruction)
        flops += times * (own + told)
        kernels += times * told
        for key, one in _collectives(program, name, instruction, times, axes):
            # One that is cut into steps and woven into fusions stands there once a step, under one channel.
            if key not in found or found[key].count < one.count:
                found[key] = one
    total = sum(size for _, _, size in moved(program))
    return Cost(flops, kernels, total, tuple(found.values()), len(program.unknown_loops()))


# Arithmetic


def _flops(program: Program, computation: Computation, instruction: Instruction) -> tuple[float, float]:
    """Operations of one run, counted; and those that a kernel tells of itself."""
    if instruction.opcode == "dot":
        return _dot(computation, instruction), 0.0
    if instruction.opcode == "convolution":
        return _convolution(computation, instruction), 0.0
    if instruction.opcode == "custom-call":
        told = re.search(r'"cost_estimate":\{[^}]*"flops":"?(\d+)', instruction.rest.replace("\\", ""))
        return 0.0, float(told.group(1)) if told else 0.0
    if instruction.opcode == "fusion":
        inner = program.computations[str(instruction.called("calls"))]
        parts = [_flops(program, inner, part) for part in inner.values()]
        return sum(own for own, _ in parts), sum(told for _, told in parts)
    return 0.0, 0.0


def _dot(computation: Computation, instruction: Instruction) -> float:
    left = _of(computation, instruction, 0).dims
    contracted = re.findall(r"\d+", instruction.attribute("lhs_contracting_dims") or "")
    return 2.0 * math.prod(instruction.arrays[0].dims) * math.prod(left[int(at)] for at in contracted)


def _convolution(computation: Computation, instruction: Instruction) -> float:
    """A TPU's matrix products are convolutions, their batch a dilated window: places beyond the input cost nothing."""
    left, right, out = (
        _of(computation, instruction, 0).dims,
        _of(computation, instruction, 1).dims,
        instruction.arrays[0].dims,
    )
    labels = re.search(r"dim_labels=([\w?]+)_([\w?]+)->([\w?]+)", instruction.rest)
    assert labels is not None, instruction.name
    of_left, of_right, of_out = labels.groups()
    window = re.search(r"window=\{([^}]*)\}", instruction.rest)
    fields = dict(field.split("=") for field in window.group(1).split()) if window else {}
    spatial = sorted(set(of_right) - {"i", "o"})
    products = 1.0
    for place, label in enumerate(spatial):
        products *= _valid_pairs(
            left[of_left.index(label)],
            right[of_right.index(label)],
            out[of_out.index(label)],
            {key: value.split("x")[place] for key, value in fields.items()},
        )
    groups = int(instruction.attribute("batch_group_count") or 1)
    features = right[of_right.index("i")] * out[of_out.index("f")]
    return 2.0 * products * features * left[of_left.index("b")] / groups


def _valid_pairs(size: int, kernel: int, out: int, window: Mapping[str, str]) -> int:
    """How many (output, kernel) places of one dimension meet a place of the input."""
    stride, dilate = int(window.get("stride", 1)), int(window.get("lhs_dilate", 1))
    apart, low = int(window.get("rhs_dilate", 1)), int(window.get("pad", "0_0").split("_")[0])
    at = np.arange(out)[:, None] * stride - low + np.arange(kernel)[None, :] * apart
    return int(((at >= 0) & (at % dilate == 0) & (at // dilate < size)).sum())


def _of(computation: Computation, instruction: Instruction, number: int) -> Array:
    return computation[instruction.operands[number]].arrays[0]


# Bytes


def moved(program: Program) -> Iterator[tuple[Instruction, Array, float]]:
    """What all runs of each instruction read and write of main memory, by array: what was read or what was written."""
    for name, instruction, times in program.runs():
        for array, size in _bytes(program, program.computations[name], instruction):
            if size:
                yield instruction, array, times * size


def _bytes(program: Program, computation: Computation, instruction: Instruction) -> list[tuple[Array, float]]:
    """Bytes of main memory that one run reads and writes, by array."""
    opcode = instruction.opcode
    if opcode in _FREE or opcode.endswith("-done") or "AllocateBuffer" in instruction.rest:
        return []
    if opcode in ("copy-start", "slice-start", "async-start"):  # what is moved, between two memories
        arrays = [array for array in instruction.arrays if array.dims]
        least = min((array.bytes for array in arrays), default=0)
        return [(array, float(least)) for array in arrays[:2] if array.space == 0]
    if opcode == "dynamic-update-slice":
        changed = _of(computation, instruction, 1)
        return [(changed, 2 * _main(changed))]
    if opcode in _PARTS:
        twice = 2 if _of(computation, instruction, 0).space == 0 else 1
        return [(array, twice * _main(array)) for array in instruction.arrays]
    inner = program.computations[str(instruction.called("calls"))] if opcode == "fusion" else None
    read = []
    for number, name in enumerate(instruction.operands):
        source = computation[name]
        if source.opcode == "constant" or not source.arrays:
            continue
        whole = sum(map(_main, source.arrays))
        if inner is not None and whole:
            whole = min(whole, _read_of_parameter(program, inner, number))
        read.append((source.arrays[0], whole))
    return read + _written(inner, instruction)


def _main(array: Array) -> float:
    return float(array.bytes) if array.space == 0 else 0.0


def _read_of_parameter(program: Program, inner: Computation, number: int) -> float:
    """How much of a fusion's parameter it reads: of a loop's stacked weights, often one layer's part."""
    name = next(one.name for one in inner.values() if one.opcode == "parameter" and one.arguments == str(number))
    return _read(program, inner, name)


def _read(program: Program, inner: Computation, name: str) -> float:
    whole, read = float(sum(array.bytes for array in inner[name].arrays)), 0.0
    for user in inner.values():
        for place, operand in enumerate(user.operands):
            if operand != name:
                continue
            if user.opcode in ("bitcast", "get-tuple-element"):
                read += _read(program, inner, user.name)
            elif user.opcode in _PARTS and place == 0:
                read += sum(array.bytes for array in user.arrays)
            elif user.opcode == "dynamic-update-slice" and place == 0:
                continue  # written in place
            elif user.opcode == "fusion":
                read += _read_of_parameter(program, program.computations[str(user.called("calls"))], place)
            else:
                return whole
    return min(whole, read)


def _written(inner: Computation | None, instruction: Instruction) -> list[tuple[Array, float]]:
    """Bytes written; where a fusion, whose computation `inner` is, changes a part of an array in place, that part's."""
    whole = [(array, _main(array)) for array in instruction.arrays]
    if inner is None:
        return whole
    root = next(one for one in inner.values() if one.root)
    results = [inner[name] for name in root.operands] if root.opcode == "tuple" else [root]
    if len(results) != len(instruction.arrays):
        return whole
    parts = []
    for result, (array, size) in zip(results, whole, strict=True):
        while result.opcode == "bitcast":
            result = inner[result.operands[0]]
        in_place = size > 0 and result.opcode == "dynamic-update-slice"
        parts.append((array, float(_of(inner, result, 1).bytes) if in_place else size))
    return parts


# Talk


def _collectives(
    program: Program, computation: str, instruction: Instruction, times: float, axes: Mapping[str, int]
) -> list[tuple[str, Collective]]:
    """Those of one instruction, inside fusions too, each with what tells it from others."""
    if instruction.opcode == "fusion":
        callee = str(instruction.called("calls"))
        inner = program.computations[callee]
        scattered = "reduce-scatter" in instruction.name or "reduce-scatter" in callee
        woven = any(part.opcode in ("convolution", "dot", "fusion") for part in inner.values())
        return [
            (key, dataclasses.replace(one, kind="reduce-scatter" if scattered else one.kind, overlapped=woven))
            for part in inner.values()
            for key, one in _collectives(program, callee, part, times, axes)
        ]
    kind = instruction.opcode.removesuffix("-start")
    if kind not in KINDS or instruction.opcode.endswith("-done"):
        return []
    arrays = instruction.arrays
    started = instruction.opcode.endswith("-start")
    if started and kind != "all-reduce":  # (operands, results, ...)
        arrays = arrays[1:2] if kind == "collective-permute" else arrays[len(arrays) // 2 :]
    payload = float(sum(array.bytes for array in arrays))
    groups = groups_of(instruction, math.prod(axes.values()))
    size = max(map(len, groups), default=1)
    wire = payload * {
        "all-reduce": 2 * (size - 1) / size,
        "all-gather": (size - 1) / size,
        "reduce-scatter": float(size - 1),
        "collective-permute": 1.0,
    }.get(kind, (size - 1) / size)
    hidden = started and _work_before_done(program.computations[computation], instruction)
    where = re.search(r'op_name="([^"]*)"', instruction.rest)
    one = Collective(kind, spanned(groups, axes), times, payload, wire, hidden, where.group(1) if where else "")
    channel = instruction.attribute("channel_id")
    return [(f"channel {channel}" if channel else f"{computation}/{instruction.name}", one)]


def _work_before_done(computation: Computation, start: Instruction) -> bool:
    """Whether matrix products or fusions are scheduled between a collective's start and its end."""
    order = list(computation.values())
    at = order.index(start)
    for instruction in order[at + 1 :]:
        if instruction.opcode.endswith("-done") and start.name in instruction.operands:
            return False
        if instruction.opcode in ("fusion", "convolution", "dot", "while", "custom-call"):
            return True
    return False


def groups_of(instruction: Instruction, devices: int) -> list[list[int]]:
    """The devices that talk to one another, by their numbers in the mesh's order.

    Three ways of writing are read: lists, ``[4,2]<=[2,4]T(1,0)``, and ``mesh['a'=2,'b'=4] {'a'}``.
    """
    rest = instruction.rest
    if "source_target_pairs=" in rest:
        pairs = re.findall(r"\{(\d+),(\d+)\}", rest.split("source_target_pairs=")[1].split("}}")[0] + "}")
        return [[int(a), int(b)] for a, b in pairs if a != b]
    text = rest.partition("replica_groups=")[2]
    if text.startswith("mesh["):
        found = re.match(r"mesh\[([^\]]*)\](?:, *device_ids=\(?\[([\d,]*)\](?:T\(([\d,]*)\))?\)?)? *\{([^}]*)\}", text)
        assert found is not None, text[:200]
        sizes = {name: int(size) for name, size in re.findall(r"'?([\w]+)'?=(\d+)", found.group(1))}
        ids = np.arange(math.prod(sizes.values()))
        if found.group(2):
            ids = ids.reshape([int(size) for size in found.group(2).split(",")])
            ids = ids.transpose([int(at) for at in found.group(3).split(",")]) if found.group(3) else ids
        ids = ids.reshape(list(sizes.values()))
        along = [list(sizes).index(name) for name in re.findall(r"'?([\w]+)'?", found.group(4))]
        ids = np.moveaxis(ids, along, range(-len(along), 0)) if along else ids[..., None]
        rows = ids.reshape(-1, math.prod(ids.shape[-max(len(along), 1) :]))
        return [list(map(int, row)) for row in rows]
    iota = re.match(r"\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", text)
    if iota:
        shape, source = ([int(size) for size in group.split(",")] for group in iota.groups()[:2])
        ids = np.arange(math.prod(source)).reshape(source)
        if iota.group(3):
            ids = ids.transpose([int(at) for at in iota.group(3).split(",")])
        return [list(map(int, row)) for row in ids.reshape(shape)]
    listed = re.findall(r"\{([\d,]+)\}", text.split("}}")[0] + "}") if text.startswith("{{") else []
    return [[int(number) for number in group.split(",")] for group in listed] or [list(range(devices))]


def spanned(groups: Sequence[Sequence[int]], axes: Mapping[str, int]) -> str:
    """The mesh axes along which members of a group differ."""
    along = set()
    for group in groups:
        places = np.stack(np.unravel_index(np.array(group), tuple(axes.values())))
        along |= {name for name, place in zip(axes, places, strict=True) if len(set(place.tolist())) > 1}
    return "+".join(name for name in axes if name in along) or "none"
