"""What a step's bytes are for, told from arrays written by hand."""

from __future__ import annotations

import jax

from ftcot_jax.bench.compile_bytes import PURPOSES, bytes_by_purpose
from ftcot_jax.bench.compile_hlo import Program
from tests.bench.hlo_cases import setup

STEP = """HloModule step

ENTRY %main (a: f32[3,128,256]) -> f32[3,128,256] {
  %a = f32[3,128,256]{2,1,0} parameter(0)
  %update = f32[3,128,256]{2,1,0} negate(%a), metadata={op_name="jit(step)/vmap()/select_n"}
  %cast = bf16[256,128]{1,0} constant(0), metadata={op_name="jit(step)/vmap(jvp())/convert_element_type"}
  %turned = bf16[128,256]{1,0} copy(%cast)
  %inner = bf16[8,32,256]{2,1,0} iota(), metadata={op_name="jit(step)/vmap(jvp())/while/body/dot_general"}
  %merged = bf16[256,256]{1,0} iota(), metadata={op_name="jit(step)/vmap(jvp())/while/body/dot_general"}
  %scores = f32[8,8,1,32,32]{4,3,2,1,0} iota(), metadata={op_name="jit(step)/vmap(jvp())/while/body/exp"}
  %logits = f32[64,512]{1,0} iota(), metadata={op_name="jit(step)/vmap(jvp())/while/body/cv,ce->ve/dot_general"}
  %moments = f32[512,128]{1,0} iota(), metadata={op_name="jit(step)/vmap()/mul"}
  ROOT %out = f32[3,128,256]{2,1,0} bitcast(%update)
}
"""


def test_arrays_are_told_apart_where_a_width_is_a_count_of_tokens() -> None:
    """The student's inner width is 256, and so are its 8 rows of 32."""
    made = setup(jax.devices("cpu"), trial=8)
    parts = bytes_by_purpose(Program.parse(STEP), made)
    layer, words = 128 * 256, 512 * 128
    assert parts == dict(
        zip(
            PURPOSES,
            (
                2 * 4 * 3 * layer + 4 * words,  # read and written; moments written
                2 * layer,  # what is constant is not read from memory
                4 * 64 * 512,
                4 * 8 * 8 * 32 * 32,
                2 * 8 * 32 * 256 + 2 * 256 * 256,
            ),
            strict=True,
        )
    )
