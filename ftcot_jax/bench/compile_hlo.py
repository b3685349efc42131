"""Reading a compiled program: its computations, and how often each instruction runs.

XLA's own cost analysis counts the body of a loop once, and a student's layers are a loop. So the optimised HLO text is
read, every loop's number of turns found, and every instruction counted as often as it runs.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Iterator, Mapping

_BITS = {"pred": 8, "token": 0, "opaque": 0}
_ARRAY = re.compile(r"\b([a-z]+\d*\w*)\[([\d,]*)\](?:\{([\d,]*)((?::[^}]*)?)\})?")
_NAME = re.compile(r"%([\w.\-]+)")
_LINE = re.compile(r"^\s*(ROOT )?%?([\w.\-]+) = (.*)$")
_OPCODE = re.compile(r"([\w\-]+)\(")


@dataclasses.dataclass(frozen=True)
class Array:
    """One array of an instruction's result.

    Attributes:
      dtype: by XLA's name, such as bf16.
      dims: its sizes.
      order: dimensions from the one that lies closest together to the farthest.
      tile: what the closest dimensions are padded to multiples of, farthest first; empty where they are not.
      space: memory it lies in: 0 is the device's main memory, others are on the chip.
    """

    dtype: str
    dims: tuple[int, ...]
    order: tuple[int, ...]
    tile: tuple[int, ...]
    space: int

    @functools.cached_property
    def bytes(self) -> int:
        """Bytes with the padding that its tiles need."""
        sizes = [self.dims[at] for at in self.order]
        for place, step in enumerate(reversed(self.tile)):
            if place < len(sizes):
                sizes[place] = -(-sizes[place] // step) * step
        return math.prod(sizes) * _bits(self.dtype) // 8


def _bits(dtype: str) -> int:
    if dtype in _BITS:
        return _BITS[dtype]
    digits = re.search(r"\d+", dtype)
    return int(digits.group()) if digits else 8


def _arrays(text: str) -> tuple[Array, ...]:
    found = []
    for dtype, dims, order, more in _ARRAY.findall(text):
        sizes = tuple(map(int, dims.split(","))) if dims else ()
        given = tuple(map(int, order.split(","))) if order else tuple(reversed(range(len(sizes))))
        tile = re.match(r":T\(([\d,]+)\)", more)
        space = re.search(r"S\((\d+)\)", more)
        found.append(
            Array(
                dtype,
                sizes,
                given,
                tuple(map(int, tile.group(1).split(","))) if tile else (),
                int(space.group(1)) if space else 0,
            )
        )
    return tuple(found)


@dataclasses.dataclass(frozen=True, eq=False)
class Instruction:
    """One instruction.

    Attributes:
      name: unique in its program.
      opcode: what it does.
      shape: its result's shape as text.
      operands: names of the instructions it reads.
      rest: its attributes as text.
      root: whether it is its computation's result.
    """

    name: str
    opcode: str
    shape: str
    operands: tuple[str, ...]
    arguments: str
    rest: str
    root: bool

    @functools.cached_property
    def arrays(self) -> tuple[Array, ...]:
        """Its result: one array, or those of a tuple."""
        return _arrays(self.shape)

    def attribute(self, name: str) -> str | None:
        """An attribute's value up to the next comma or space; braces are kept whole."""
        found = re.search(rf"\b{name}=(\{{[^}}]*\}}|[^,\s]+)", self.rest)
        return found.group(1) if found else None

    def called(self, name: str) -> str | None:
        """The computation that an attribute names."""
        value = self.attribute(name)
        return None if value is None else value.lstrip("%")


Computation = dict[str, Instruction]


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """A compiled program of one device.

    Attributes:
      head: the text's first line: name, aliases of inputs and outputs.
      entry: the computation that runs.
      computations: instructions in the order they run, by computation and name.
    """

    head: str
    entry: str
    computations: Mapping[str, Computation]

    @classmethod
    def parse(cls, text: str) -> Program:
        """Reads what `jax.stages.Compiled.as_text` returns."""
        head, *lines = text.splitlines()
        computations: dict[str, Computation] = {}
        entry, current = "", None
        for line in lines:
            if not line.startswith(" ") and line.rstrip().endswith("{"):
                name = line.removeprefix("ENTRY ").split(" ", 1)[0].lstrip("%")
                current = computations.setdefault(name, {})
                if line.startswith("ENTRY "):
                    entry = name
            elif current is not None and (found := _LINE.match(line)):
                instruction = _instruction(found.group(2), found.group(3), bool(found.group(1)))
                current[instruction.name] = instruction
        return cls(head, entry, computations)

    def __iter__(self) -> Iterator[Instruction]:
        for computation in self.computations.values():
            yield from computation.values()

    @functools.cached_property
    def aliased(self) -> set[int]:
        """Numbers of the arguments whose memory a result takes over."""
        start = self.head.find("input_output_alias={")
        return (
            {int(number) for number in re.findall(r": \((\d+), ", _braces(self.head, start))} if start >= 0 else set()
        )

    def runs(self) -> Iterator[tuple[str, Instruction, float]]:
        """Every instruction that starts work of its own, with its computation and how often it runs.

        Instructions of a fusion are part of it and left out. Of a branch, the one with more arithmetic counts.
        """
        yield from self._runs(self.entry, 1.0)

    def _runs(self, name: str, times: float) -> Iterator[tuple[str, Instruction, float]]:
        for instruction in self.computations[name].values():
            yield name, instruction, times
            if instruction.opcode == "while":
                body = instruction.called("body")
                assert body is not None
                yield from self._runs(body, times * (self.trips(name, instruction) or 1))
            elif instruction.opcode in ("call", "async-start"):
                callee = instruction.called("to_apply") or instruction.called("calls")
                if callee is not None:
                    yield from self._runs(callee, times)
            elif instruction.opcode == "conditional":
                yield from self._runs(self._dearest(instruction), times)

    def _dearest(self, instruction: Instruction) -> str:
        """A branch's computation that does most, as far as its number of instructions tells."""
        branches = re.findall(r"(?:branch_computations=\{([^}]*)\})", instruction.rest)
        names = _NAME.findall(branches[0]) if branches else []
        names += [
            name for key in ("true_computation", "false_computation") if (name := instruction.called(key)) is not None
        ]
        return max(names, key=lambda name: sum(1 for _ in self._runs(name, 1.0)))

    def unknown_loops(self) -> list[str]:
        """Loops whose number of turns depends on data; their bodies are counted once."""
        return [
            instruction.name
            for name, instruction, _ in self.runs()
            if instruction.opcode == "while" and self.trips(name, instruction) is None
        ]

    def trips(self, computation: str, loop: Instruction) -> int | None:
        """Turns of a loop; None where they depend on data."""
        known = re.search(r'"known_trip_count":\{"n":"(\d+)"\}', loop.rest)
        if known:
            return int(known.group(1))
        counter, end = self._limit(self.computations[str(loop.called("condition"))])
        if end is None:
            return None
        body = self.computations[str(loop.called("body"))]
        start = _constant(self.computations[computation], _element(self.computations[computation], loop, counter))
        return -(-(end - (start or 0)) // self._stride(body, counter))

    def _limit(self, condition: Computation) -> tuple[int, int | None]:
        """Which part of the loop's state counts, and the constant it stays below; None where it is another loop."""
        root = _root(condition)
        comparison = root
        if root.opcode == "fusion":  # the comparison, wrapped: what it compares are its operands
            comparison = _root(self.computations[str(root.called("calls"))])
        if comparison.opcode != "compare" or comparison.attribute("direction") != "LT":
            return 0, None
        ends = [_constant(condition, name) for name in root.operands]
        counters = [condition[name] for name in root.operands if condition[name].opcode == "get-tuple-element"]
        end = next((number for number in ends if number is not None), None)
        if end is None or not counters:
            return 0, None
        return int(str(counters[0].attribute("index"))), end

    def _stride(self, body: Computation, counter: int) -> int:
        """What one turn adds to the counter: 1, but more where the compiler has put several turns into one."""
        result = body[_root(body).operands[counter]]
        inside = body
        if result.opcode == "fusion":
            inside = self.computations[str(result.called("calls"))]
            result = _root(inside)
        added = [_constant(inside, name) for name in result.operands] if result.opcode == "add" else []
        return next((number for number in added if number), 1)


def _root(computation: Computation) -> Instruction:
    return next(instruction for instruction in computation.values() if instruction.root)


def _constant(computation: Computation, name: str | None) -> int | None:
    instruction = computation.get(name or "")
    if instruction is None or instruction.opcode != "constant" or not instruction.arguments.isdigit():
        return None
    return int(instruction.arguments)


def _element(computation: Computation, loop: Instruction, number: int) -> str | None:
    """The name of what a loop's state begins with at a place."""
    state = computation[loop.operands[0]]
    return state.operands[number] if state.opcode == "tuple" else None


def _instruction(name: str, text: str, root: bool) -> Instruction:
    shape = _parentheses(text, 0) if text.startswith("(") else text.split(" ", 1)[0]
    found = _OPCODE.search(text, len(shape))
    assert found is not None, text[:200]
    arguments = _parentheses(text, found.end() - 1)
    rest = text[found.end() - 1 + len(arguments) :]
    inside = arguments[1:-1]
    return Instruction(name, found.group(1), shape, tuple(_NAME.findall(inside)), inside, rest, root)


def _parentheses(text: str, start: int) -> str:
    return _balanced(text, start, "(", ")")


def _braces(text: str, start: int) -> str:
    return _balanced(text, text.index("{", start), "{", "}")


def _balanced(text: str, start: int, opening: str, closing: str) -> str:
    depth = 0
    for at in range(start, len(text)):
        depth += (text[at] == opening) - (text[at] == closing)
        if depth == 0:
            return text[start : at + 1]
    return text[start:]
