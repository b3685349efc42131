"""What a train step's bytes of main memory are for: told from the compiled arrays' sizes and where they come from."""

from __future__ import annotations

import collections
import math
from collections.abc import Iterable

import jax

from ftcot_jax.bench.compile_cost import moved
from ftcot_jax.bench.compile_hlo import Array, Instruction, Program
from ftcot_jax.bench.compile_programs import Setup
from ftcot_jax.training.mesh import params_shardings

PURPOSES = ("optimizer", "layers' weights", "vocabulary", "attention scores", "activations")
"""The optimizer's are of weights, moments and gradients once gradients are taken, clipping included; "layers' weights"
those that the forward and backward pass read, cast, copy and sum gradients into; "vocabulary" the same of the embedding
and the projection, and logits; "attention scores" whatever has a place for each pair of tokens; "activations" the rest.
What the compiler copies without saying for what counts by its sizes, as if read by a pass.
"""


def bytes_by_purpose(program: Program, setup: Setup) -> dict[str, float]:
    """Bytes that one run of a train step moves on a device, by purpose; their sum is `Cost.bytes`."""
    sums: dict[str, float] = collections.defaultdict(float)
    sizes = _Sizes(setup)
    for instruction, array, size in moved(program):
        sums[sizes.purpose(instruction, array)] += size
    return {purpose: sums[purpose] for purpose in PURPOSES}


class _Sizes:
    """The sizes by which arrays are told apart."""

    def __init__(self, setup: Setup) -> None:
        shape, mesh, student = setup.shape, setup.mesh, setup.student
        slots = setup.slots // mesh.shape["trial"]
        shards = mesh.shape["data"] * mesh.shape["fsdp"]
        self.lengths = {length for length in (shape.length, shape.source_length) if length}
        rows = {shape.rows // shape.microbatches // by for by in (1, shards)}
        self.of_tokens = self.lengths | {count * length for count in rows for length in self.lengths}
        spread = mesh.size // mesh.shape["trial"]
        count = jax.eval_shape(student.head, student.shapes).shape[0]
        # A whole student's, a device's part, and where the compiler puts slots side by side, of all of them.
        self.words = {words * by for words in (count, -(-count // spread)) for by in (1, slots)}
        self.weights: set[int] = set()
        self.shapes: set[tuple[int, ...]] = set()
        places = params_shardings(mesh, student.sharding_rules, student.shapes)
        for leaf, place in zip(jax.tree.leaves(student.shapes), jax.tree.leaves(places), strict=True):
            for dims in (leaf.shape, place.shard_shape(leaf.shape)):
                for part in ((by, *some) for some in (dims, dims[1:]) for by in (1, slots)):
                    self.weights.add(math.prod(part))
                    self.shapes.add(_unordered(part))

    def purpose(self, instruction: Instruction, array: Array) -> str:
        dims = [size for size in array.dims if size != 1]
        if sum(size in self.lengths for size in dims) >= 2:
            return "attention scores"
        of_words = bool(self.words.intersection(dims))
        # A width may be as large as a count of tokens; so one of these speaks against a weight only where the array
        # has not a weight's very sizes.
        of_weights = math.prod(dims) in self.weights and not self.of_tokens.intersection(dims)
        if not of_words and not of_weights and _unordered(dims) not in self.shapes:
            return "activations"
        source = instruction.attribute("op_name")
        if source is not None and "jvp" not in source and source.startswith('"jit(step)'):
            return "optimizer"
        return "vocabulary" if of_words else "layers' weights"


def _unordered(dims: Iterable[int]) -> tuple[int, ...]:
    """Sizes in any order, without those of 1."""
    return tuple(sorted(size for size in dims if size != 1))
