"""What a train step's bytes of main memory are for: told from the compiled arrays' sizes and where they come from."""

from __future__ import annotations

import collections
import math

import jax

from ftcot_jax.bench.compile_cost import moved
from ftcot_jax.bench.compile_hlo import Array, Instruction, Program
from ftcot_jax.bench.compile_programs import Setup
from ftcot_jax.training.mesh import params_shardings

PURPOSES = ("optimizer", "layers' weights", "vocabulary", "attention scores", "activations")
"""The optimizer's are of weights, moments and gradients once gradients are taken, clipping included; "layers' weights"
those that the forward and backward pass read, cast, copy and sum gradients into; "vocabulary" the same of the embedding
and the projection, and logits; "attention scores" whatever has a place for each pair of tokens; "activations" the rest.
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
        self.weights = set()
        places = params_shardings(mesh, student.sharding_rules, student.shapes)
        for leaf, place in zip(jax.tree.leaves(student.shapes), jax.tree.leaves(places), strict=True):
            for dims in (leaf.shape, place.shard_shape(leaf.shape)):
                self.weights |= {math.prod(part) * by for part in (dims, dims[1:]) for by in (1, slots)}

    def purpose(self, instruction: Instruction, array: Array) -> str:
        dims = [size for size in array.dims if size != 1]
        if sum(size in self.lengths for size in dims) >= 2:
            return "attention scores"
        of_words = bool(self.words.intersection(dims))
        if not of_words and (self.of_tokens.intersection(dims) or math.prod(dims) not in self.weights):
            return "activations"
        source = instruction.attribute("op_name")
        if source is not None and "jvp" not in source and source.startswith('"jit(step)'):
            return "optimizer"
        return "vocabulary" if of_words else "layers' weights"
