"""The compiled parts of generation: filling the cache with prompts, and decoding many steps on the device.

Everything has a leading axis of S slots, one student each; a single student is one slot. A row's state is its last
token, that token's position, and how many tokens it may still write. The last token of a decoder's prompt is not
part of prefill: the decode loop reads it as its first step, so the vocabulary projection happens only where a token
is chosen.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from ftcot_jax.generation.placement import place, replicate
from ftcot_jax.generation.sampling import Sampling, choose
from ftcot_jax.students.family import Params
from ftcot_jax.students.kv_cache import Cache, KVCache, LayerKV
from ftcot_jax.students.student import Student

NOTHING = -1  # in a chunk's output: the row was not writing


class Weights(NamedTuple):
    """The params of S students, as `Student.for_writing` lays them out.

    Attributes:
      own: those that each student has for itself; every leaf has the slot axis first.
      shared: those that all have in common, without a slot axis (a frozen base); None where there are none.
    """

    own: Params
    shared: Params | None


class Rows(NamedTuple):
    """What is being written, one entry a row: each (S, B) int32. A row with no `budget` left is idle.

    Attributes:
      token: the last one, not yet read.
      position: its place in the text.
      budget: tokens that may still be written.
      seed: decides the row's draws, uint32.
    """

    token: jax.Array
    position: jax.Array
    budget: jax.Array
    seed: jax.Array


@functools.partial(jax.jit, static_argnames="student")
def lay_out(student: Student, own: Params, shared: Params | None, local_TxK: jax.Array) -> Weights:
    """Returns the weights of some slots in the layout that the other functions here take.

    Args:
      student: whose.
      own: params of all slots.
      shared: params that they have in common.
      local_TxK: the slots, K of each of T equal parts that the slots are cut into, numbered within the part. Each
        part's are taken where they lie.
    """
    shares, chosen = local_TxK.shape

    def take(leaf: jax.Array) -> jax.Array:
        parts = leaf.reshape(shares, -1, *leaf.shape[1:])
        if chosen == parts.shape[1]:
            return leaf  # all of them, in order
        return jax.vmap(lambda part, local_K: part[local_K])(parts, local_TxK).reshape(-1, *leaf.shape[1:])

    apart = _each_slot(student.for_writing, jax.tree.map(take, own))
    return Weights(apart, None if shared is None else student.for_writing(shared))


@functools.partial(jax.jit, static_argnames="student")
def lay_out_one(student: Student, params: Params) -> Weights:
    """The same for one student, whose params have no slot axis: it is the only slot."""
    return Weights(jax.tree.map(lambda leaf: leaf[None], student.for_writing(params)), None)


@functools.partial(jax.jit, static_argnames=("student", "mesh", "slots", "rows", "columns", "prompt_columns"))
def new_cache(student: Student, mesh: Mesh | None, slots: int, rows: int, columns: int, prompt_columns: int) -> Cache:
    """Returns an empty cache of S slots with B rows each."""

    def empty(_: jax.Array) -> Cache:
        return student.empty_cache(rows, columns, prompt_columns)

    return place(mesh, jax.vmap(empty)(jnp.zeros(slots)))


@functools.partial(jax.jit, static_argnames=("student", "mesh"))
def read_prefix(student: Student, mesh: Mesh | None, weights: Weights, tokens_P: jax.Array) -> tuple[LayerKV, ...]:
    """Has each student read the P tokens with which all prompts begin, once."""

    def read(own: Params) -> tuple[LayerKV, ...]:
        cache = student.read(_joined(student, own, weights.shared), tokens_P[None], jnp.array([len(tokens_P)]))
        assert isinstance(cache, KVCache)
        return cache.as_prefix()

    return place(mesh, _each_slot(read, weights.own))


@functools.partial(jax.jit, static_argnames=("student", "mesh"), donate_argnames="cache")
def prefill(
    student: Student,
    mesh: Mesh | None,
    weights: Weights,
    cache: Cache,
    row_Sxb: jax.Array,
    tokens_SxbxT: jax.Array,
    length_Sxb: jax.Array,
) -> Cache:
    """Has the students read prompts into rows of their caches.

    Args:
      student: whose cache.
      mesh: where the cache lives.
      weights: of S students.
      cache: of B rows a slot, with room for T tokens of prompt; given up.
      row_Sxb: (S, b) int32 row of each prompt; B or more marks a place that holds no prompt.
      tokens_SxbxT: (S, b, T) int32 prompts without the cache's prefix, padded on the right.
      length_Sxb: (S, b) int32 tokens of each that count.
    """

    def fill(own: Params, cache: Any, row_b: jax.Array, tokens_bxT: jax.Array, length_b: jax.Array) -> Cache:
        prefix = cache.prefix if isinstance(cache, KVCache) else ()
        params = _joined(student, own, weights.shared)
        return cache.fill(row_b, student.read(params, tokens_bxT, length_b, prefix))

    return place(mesh, _each_slot(fill, weights.own, cache, row_Sxb, tokens_SxbxT, length_Sxb))


@functools.partial(jax.jit, static_argnames=("mesh", "width"), donate_argnames="cache")
def copy_rows(mesh: Mesh | None, cache: Cache, from_Sxb: jax.Array, to_Sxb: jax.Array, width: int) -> Cache:
    """Gives rows the prompts that other rows of their slot have read, of `width` tokens at most.

    A row `to` of B or more marks a place that holds no row. The cache is given up.
    """

    def copy(cache: Cache, from_b: jax.Array, to_b: jax.Array) -> Cache:
        return cache.copy_prompts(from_b, to_b, width)

    return place(mesh, _each_slot(copy, cache, from_Sxb, to_Sxb))


@functools.partial(jax.jit, static_argnames=("student", "mesh", "sampling", "steps"), donate_argnames="cache")
def decode_chunk(
    student: Student,
    mesh: Mesh | None,
    weights: Weights,
    cache: Cache,
    rows: Rows,
    leave_at: jax.Array,
    end: jax.Array,
    sampling: Sampling | None,
    steps: int,
) -> tuple[Cache, jax.Array]:
    """Decodes until `steps` steps are done or at most `leave_at` rows of all slots are still writing.

    A row that writes the token `end` has ended. (Students that share this program may differ in their tokenizers.)

    Returns:
      The cache after it, and the tokens written, (S, B, steps) int32: `NOTHING` where a row was idle; the end
      token included.
    """
    head_SxVxE = _each_slot(lambda own: student.head(_joined(student, own, weights.shared)), weights.own)

    def go_on(state: tuple[Any, ...]) -> jax.Array:
        step, _, rows, _ = state
        return (step < steps) & (jnp.sum(rows.budget > 0) > leave_at)

    def next_token(own: Params, head_VxE: jax.Array, cache: Cache, rows: Rows) -> tuple[Cache, jax.Array]:
        params = _joined(student, own, weights.shared)
        hidden_Bx1xE, cache = student.extend(params, cache, rows.token[:, None], rows.position[:, None])
        logits_BxV = jnp.einsum(
            "be,ve->bv",
            hidden_Bx1xE[:, 0],
            head_VxE,
            precision=jax.lax.Precision.HIGHEST,  # of float32; bfloat16 operands stay what they are
            preferred_element_type=jnp.float32,
        )
        return cache, choose(logits_BxV, sampling, rows.seed, rows.position)

    def advance(state: tuple[Any, ...]) -> tuple[Any, ...]:
        step, cache, rows, written_SxBxN = state
        writing = rows.budget > 0
        cache, token = _each_slot(next_token, weights.own, head_SxVxE, cache, rows)
        written_SxBxN = written_SxBxN.at[..., step].set(jnp.where(writing, token, NOTHING))
        rows = Rows(
            token=jnp.where(writing, token, rows.token),
            position=rows.position + writing,
            budget=jnp.where(writing & (token != end), rows.budget - 1, 0),
            seed=rows.seed,
        )
        return step + 1, place(mesh, cache), rows, written_SxBxN

    nothing = jnp.full((*rows.token.shape, steps), NOTHING, jnp.int32)
    _, cache, _, written = jax.lax.while_loop(go_on, advance, (jnp.int32(0), cache, rows, nothing))
    return cache, replicate(mesh, written)


@functools.partial(jax.jit, static_argnames=("mesh", "length"))
def rearrange(mesh: Mesh | None, cache: Cache, row_SxB: jax.Array, length: int) -> Cache:
    """Returns a cache with only the chosen rows of each slot, and `length` columns."""
    return place(mesh, _each_slot(lambda cache, row_B: cache.resize(row_B, length), cache, row_SxB))


def _joined(student: Student, own: Params, shared: Params | None) -> Params:
    return own if shared is None else student.join(shared, own)


def _each_slot(function: Callable[..., Any], *trees: Any) -> Any:
    """Applies the function to every slot; one slot alone needs no batched products."""
    if jax.tree.leaves(trees)[0].shape[0] > 1:
        return jax.vmap(function)(*trees)
    alone = function(*jax.tree.map(lambda leaf: leaf[0], trees))
    return jax.tree.map(lambda leaf: leaf[None], alone)
