"""The compiled parts of generation: filling the cache with prompts, and decoding many steps on the device.

A row's state is its last token, that token's position, and how many tokens it may still write. The last
token of a decoder's prompt is not part of prefill: the decode loop reads it as its first step, so the vocabulary
projection happens only where a token is chosen.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ftcot_jax.generation.sampling import Sampling, choose
from ftcot_jax.students.family import Params
from ftcot_jax.students.kv_cache import Cache
from ftcot_jax.students.student import Student

NOTHING = -1  # in a chunk's output: the row was not writing


class Rows(NamedTuple):
    """What is being written, one entry a row: each (B,) int32. A row with no `budget` left is idle.

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


@functools.partial(jax.jit, static_argnames="student", donate_argnames="cache")
def prefill(
    student: Student, params: Params, cache: Cache, row_b: jax.Array, tokens_bxT: jax.Array, length_b: jax.Array
) -> Cache:
    """Has the student read prompts into rows of the cache.

    Args:
      student: whose cache.
      params: its weights.
      cache: of B rows, with room for T tokens of prompt; given up.
      row_b: (b,) int32 row of each prompt; B or more marks a place that holds no prompt.
      tokens_bxT: (b, T) int32 prompts, padded on the right.
      length_b: (b,) int32 tokens of each that count.
    """
    return cache.fill(row_b, student.read(params, tokens_bxT, length_b))  # type: ignore[arg-type]


@functools.partial(jax.jit, static_argnames=("student", "sampling", "steps"), donate_argnames="cache")
def decode_chunk(
    student: Student,
    params: Params,
    cache: Cache,
    rows: Rows,
    leave_at: jax.Array,
    sampling: Sampling | None,
    steps: int,
) -> tuple[Cache, jax.Array]:
    """Decodes until `steps` steps are done or at most `leave_at` rows are still writing.

    Returns:
      The cache after it, and the tokens written, (B, steps) int32: `NOTHING` where a row was idle; the end
      token included.
    """
    head_VxE = student.head(params)
    batch = rows.token.shape[0]

    def go_on(state: tuple[Any, ...]) -> jax.Array:
        step, _, rows, _ = state
        return (step < steps) & (jnp.sum(rows.budget > 0) > leave_at)

    def advance(state: tuple[Any, ...]) -> tuple[Any, ...]:
        step, cache, rows, written_BxN = state
        writing = rows.budget > 0
        hidden_Bx1xE, cache = student.extend(params, cache, rows.token[:, None], rows.position[:, None])
        logits_BxV = jnp.einsum(
            "be,ve->bv",
            hidden_Bx1xE[:, 0],
            head_VxE,
            precision=jax.lax.Precision.HIGHEST,  # of float32; bfloat16 operands stay what they are
            preferred_element_type=jnp.float32,
        )
        token = choose(logits_BxV, sampling, rows.seed, rows.position)
        written_BxN = written_BxN.at[:, step].set(jnp.where(writing, token, NOTHING))
        rows = Rows(
            token=jnp.where(writing, token, rows.token),
            position=rows.position + writing,
            budget=jnp.where(writing & (token != student.eos_id), rows.budget - 1, 0),
            seed=rows.seed,
        )
        return step + 1, cache, rows, written_BxN

    nothing = jnp.full((batch, steps), NOTHING, jnp.int32)
    _, cache, _, written = jax.lax.while_loop(go_on, advance, (jnp.int32(0), cache, rows, nothing))
    return cache, written


@functools.partial(jax.jit, static_argnames="length")
def rearrange(cache: Cache, row_b: jax.Array, length: int) -> Cache:
    """Returns a cache with only the chosen rows and `length` columns."""
    return cache.resize(row_b, length)
