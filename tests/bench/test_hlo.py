"""Reading compiled programs: loops, arithmetic, bytes, and who talks to whom, against what is known by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest

from ftcot_jax.bench.compile_cost import cost_of, groups_of, spanned
from ftcot_jax.bench.compile_hlo import Instruction, Program, _arrays

AXES = {"trial": 2, "data": 1, "fsdp": 4, "tensor": 1}


def talking(rest: str) -> Instruction:
    return Instruction("one", "all-reduce", "f32[4]", (), "", rest, False)


@pytest.mark.parametrize(
    ("groups", "axes"),
    [
        ("replica_groups={{0,1,2,3},{4,5,6,7}}, to", "fsdp"),
        ("replica_groups={{0,4},{1,5},{2,6},{3,7}}", "trial"),
        ("replica_groups=[2,4]<=[8], x", "fsdp"),
        ("replica_groups=[4,2]<=[2,4]T(1,0), x", "trial"),
        ("replica_groups=mesh['axis_0'=2,'axis_1'=4] {'axis_1'}, x", "fsdp"),
        ("replica_groups=mesh['a'=2,'b'=4] {'a','b'}, x", "trial+fsdp"),
        ("replica_groups={}, x", "trial+fsdp"),
        ("source_target_pairs={{0,1},{1,2},{2,3},{3,0}}", "fsdp"),
        ("source_target_pairs={{0,0},{4,4}}", "none"),
    ],
)
def test_who_talks_to_whom(groups: str, axes: str) -> None:
    assert spanned(groups_of(talking(groups), 8), AXES) == axes


def test_padded_bytes_and_memory_space() -> None:
    (array,) = _arrays("bf16[3,100,5]{1,2,0:T(8,128)(2,1)S(1)}")
    assert (array.bytes, array.space) == (3 * 8 * 128 * 2, 1)
    assert _arrays("f32[10,10]{1,0}")[0].bytes == 400
    assert [one.dims for one in _arrays("(s32[], pred[2]{0}, f32[1,2]{1,0})")] == [(), (2,), (1, 2)]


TPU_LOOP = """HloModule jit_f, is_scheduled=true, input_output_alias={ {0}: (0, {}, may-alias) }

%body (p: (s32[], f32[8,8])) -> (s32[], f32[8,8]) {
  %p = (s32[], f32[8,8]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %two = s32[] constant(STRIDE)
  %next = s32[] add(%i, %two)
  %x = f32[8,8]{1,0} get-tuple-element(%p), index=1
  %y = f32[8,8]{1,0} convolution(%x, %x), window={size=2 lhs_dilate=2}, dim_labels=0bf_0io->0bf
  ROOT %t = (s32[], f32[8,8]{1,0}) tuple(%next, %x)
}

%cond (q: (s32[], f32[8,8])) -> pred[] {
  %q = (s32[], f32[8,8]{1,0}) parameter(0)
  %j = s32[] get-tuple-element(%q), index=0
  %end = s32[] constant(12)
  ROOT %lt = pred[] compare(%j, %end), direction=LT
}

ENTRY %main (a: f32[8,8]) -> f32[8,8] {
  %a = f32[8,8]{1,0} parameter(0)
  %zero = s32[] constant(0)
  %start = (s32[], f32[8,8]{1,0}) tuple(%zero, %a)
  %loop = (s32[], f32[8,8]{1,0}) while(%start), condition=%cond, body=%body
  ROOT %out = f32[8,8]{1,0} get-tuple-element(%loop), index=1
}
"""


@pytest.mark.parametrize(("stride", "turns"), [(1, 12), (2, 6), (5, 3)])
def test_turns_of_a_loop_without_a_known_count(stride: int, turns: int) -> None:
    """As libtpu writes them; it puts two turns of a windowed product into one."""
    text = TPU_LOOP.replace("STRIDE", str(stride)).replace(
        "f32[8,8]{1,0} convolution(%x, %x), window={size=2 lhs_dilate=2}, dim_labels=0bf_0io->0bf",
        "f32[8,8]{1,0} dot(%x, %x), lhs_contracting_dims={1}, rhs_contracting_dims={0}",
    )
    program = Program.parse(text)
    assert cost_of(program, AXES).flops == turns * 2 * 8**3
    assert program.aliased == {0}


def test_a_batched_product_that_a_tpu_writes_as_a_convolution() -> None:
    """(5, 3, 7) x (5, 7, 4): the batch is a window dilated by its size, of which one place in five meets an input."""
    text = """HloModule m

ENTRY %main (a: f32[5,3,7], b: f32[5,7,4]) -> f32[5,3,4] {
  %a = f32[5,3,7]{2,1,0} parameter(0)
  %b = f32[5,7,4]{2,1,0} parameter(1)
  ROOT %c = f32[5,3,4]{2,1,0} convolution(%a, %b), window={size=5 stride=4 lhs_dilate=5}, dim_labels=0bf_0io->0bf
}
"""
    assert cost_of(Program.parse(text), AXES).flops == 2 * 5 * 3 * 7 * 4


def test_a_scan_counts_each_turn_and_one_layers_weights() -> None:
    layers, width = 6, 32

    def apply(weights: jax.Array, x: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, weights)[0]

    shapes = jax.ShapeDtypeStruct((layers, width, width), "float32"), jax.ShapeDtypeStruct((4, width), "float32")
    compiled = jax.jit(apply).lower(*shapes).compile()
    program = Program.parse(compiled.as_text())
    cost = cost_of(program, {"trial": 1})
    assert cost.flops == layers * 2 * 4 * width * width
    assert cost.unknown_loops == 0
    weights = 4 * layers * width * width
    assert weights <= cost.bytes < 6 * weights  # read a layer at a time, not all of them in every turn


def test_a_loop_that_data_ends_is_told() -> None:
    double = jax.jit(lambda x: jax.lax.while_loop(lambda x: x[0, 0] < 9, lambda x: x @ x, x))
    compiled = double.lower(jax.ShapeDtypeStruct((4, 4), "float32")).compile()
    cost = cost_of(Program.parse(compiled.as_text()), {"trial": 1})
    assert (cost.unknown_loops, cost.flops) == (1, 2 * 4**3)
