"""The attention kernels agree where they run, and are refused, not replaced, where they do not."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ftcot_jax.bench.compile_chips import find_topology
from ftcot_jax.errors import UsageError
from ftcot_jax.students import fused_attention
from ftcot_jax.students.fused_attention import attend_row, require_platform, splash_rows
from ftcot_jax.students.load import load_student
from ftcot_jax.students.settings import StudentSettings
from tests.students.cases import CASES, WORDS

LENGTH, SCALE = 144, 0.3
SEGMENTS = np.zeros((2, LENGTH), np.int32)
SEGMENTS[0, :60], SEGMENTS[0, 60:130], SEGMENTS[1, :140] = 2, 1, 3


def drawn(dtype: Any = jnp.float32, head_dim: int = 24) -> list[jax.Array]:
    """Queries of 4 heads, keys and values of 2, and a cotangent that is zero on padding."""
    keys = jax.random.split(jax.random.key(0), 4)
    shapes = [(2, LENGTH, heads, head_dim) for heads in (4, 2, 2, 4)]
    made = [jax.random.normal(key, shape, dtype) for key, shape in zip(keys, shapes, strict=True)]
    return [*made[:3], made[3] * (SEGMENTS > 0)[..., None, None]]


def check_equal(attend: Any, inputs: list[jax.Array], tolerance: float) -> None:
    """Compares outputs at real tokens and gradients with those of plain XLA."""

    def run(attend: Any) -> Any:
        def total(q: jax.Array, k: jax.Array, v: jax.Array) -> tuple[jax.Array, jax.Array]:
            out = attend(q, k, v, SEGMENTS, SCALE)
            return (out * inputs[3]).sum().astype(jnp.float32), out * (SEGMENTS > 0)[..., None, None]

        return jax.jit(jax.value_and_grad(total, (0, 1, 2), has_aux=True))(*inputs[:3])

    (_, ours), gradients = run(attend)
    (_, plain), expected = run(functools.partial(attend_row, "xla"))
    for a, b in zip((ours, *gradients), (plain, *expected), strict=True):
        assert float(jnp.abs(b).max()) > 0.1
        np.testing.assert_allclose(a.astype(jnp.float32), b.astype(jnp.float32), atol=tolerance)


def test_splash_attention_equals_xla() -> None:
    """The kernel step by step on the CPU: grouped queries, packed rows, a length that is no multiple of 128."""
    check_equal(functools.partial(splash_rows, interpret=True), drawn(), 2e-5)


def test_long_rows_in_blocks_of_queries_equal_whole_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where questions are shared and weights dropped; and a third of the arithmetic is gone."""
    reads = np.where(SEGMENTS == 1, 2, SEGMENTS)  # the second segment of the first row reads the first one too
    keep = jax.random.bernoulli(jax.random.key(1), 0.8, (2, 4, LENGTH, LENGTH)).astype(jnp.float32)

    def in_blocks(*inputs: Any) -> jax.Array:
        with monkeypatch.context() as patch:
            patch.setattr(fused_attention, "_LONG", LENGTH - 1)
            patch.setattr(fused_attention, "_BLOCK", 40)
            return attend_row("xla", *inputs)

    check_equal(in_blocks, drawn(), 2e-5)
    inputs = (*drawn()[:3], SEGMENTS, SCALE, keep, reads)
    whole, blocks = (jax.jit(lambda f=f: f(*inputs)) for f in (functools.partial(attend_row, "xla"), in_blocks))
    np.testing.assert_allclose(blocks(), whole(), atol=2e-5)
    arguments = drawn()[:3]
    flops = [
        jax.jit(lambda q, k, v, f=f: f(q, k, v, SEGMENTS, SCALE)).lower(*arguments).compile().cost_analysis()["flops"]
        for f in (functools.partial(attend_row, "xla"), in_blocks)
    ]
    assert flops[1] < 0.7 * flops[0]


@pytest.mark.slow
@pytest.mark.skipif(jax.default_backend() != "gpu", reason="cuDNN attention runs on a GPU")
def test_cudnn_attention_equals_xla() -> None:
    check_equal(functools.partial(attend_row, "cudnn"), drawn(jnp.bfloat16, 32), 3e-2)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_splash_attention_compiles_for_a_tpu(dtype: Any) -> None:
    """Forward and backward, ahead of time, for a v5e chip that is not here."""
    pytest.importorskip("libtpu", reason="the tpu extra brings the compiler")
    from jax.sharding import SingleDeviceSharding

    one = SingleDeviceSharding(find_topology("v5e:2x2").devices[0])
    inputs = [jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=one) for x in drawn(dtype, 64)[:3]]

    def total(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        return attend_row("splash", q, k, v, jnp.asarray(SEGMENTS), SCALE).astype(jnp.float32).sum()

    text = jax.jit(jax.grad(total, (0, 1, 2))).lower(*inputs).compile().as_text()
    assert text.count("tpu_custom_call") >= 3  # forward, and backward in two parts


@pytest.mark.parametrize(
    ("case", "settings", "message"),
    [
        ("t5", {"attention": "splash"}, r"splash takes no learned bias on the scores, which t5 has; use xla"),
        ("gpt2", {"attention": "splash"}, r"cannot drop attention weights, and the config's rate is 0\.1"),
        ("llama", {"attention": "cudnn"}, r"cudnn computes in bfloat16; set student\.dtype=bfloat16, not float32"),
    ],
)
def test_a_kernel_that_cannot_compute_a_student_is_refused(case: str, settings: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_student(StudentSettings(scratch=CASES[case], **settings), WORDS)


def test_a_kernel_of_another_platform_is_refused() -> None:
    for attention in ("cudnn", "splash"):
        with pytest.raises(UsageError, match=rf"{attention} runs on a (gpu|tpu), and this is a cpu; use xla"):
            require_platform(attention, "cpu", 1)
    with pytest.raises(UsageError, match=r"splash runs in programs for one device, and the mesh has 8"):
        require_platform("splash", "tpu", 8)
    require_platform("splash", "tpu", 1)
    require_platform("xla", "cpu", 8)
