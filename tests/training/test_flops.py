"""The operations of a step, against what XLA counts in the compiled one; and what devices can do."""

from __future__ import annotations

import time
import types
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ftcot_jax.records.batch import PackedBatch, Rows
from ftcot_jax.students.load import load_student
from ftcot_jax.students.settings import StudentSettings
from ftcot_jax.training.flops import StepFlops, peak_flops
from ftcot_jax.training.step import batch_loss
from tests.students.cases import write_case

TEXT, SOURCE, LABELS = 96, 160, 64  # one record a batch, one chunk of labels: nothing is looped over


def make(kind: str, lora: bool, folder: Path) -> Any:
    width = {
        "llama": {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 1, "num_attention_heads": 4,
                  "num_key_value_heads": 2, "max_position_embeddings": 256},
        "gpt2": {"n_embd": 256, "n_inner": 512, "n_layer": 1, "n_head": 4, "n_positions": 256},
        "t5": {"d_model": 256, "d_ff": 512, "num_layers": 1, "num_heads": 4, "d_kv": 64},
    }[kind]  # fmt: skip
    settings: dict[str, Any] = {"scratch": {"model_type": kind, **width}}
    if lora:
        plain = load_student(StudentSettings(**settings), tuple(f"w{n}" for n in range(1000)))
        from ftcot_jax.students.save import save_student

        save_student(plain, plain.init(jax.random.key(0)), folder)
        settings = {"checkpoint": str(folder), "lora": {"rank": 16}}
        return load_student(StudentSettings(**settings))
    return load_student(StudentSettings(**settings), tuple(f"w{n}" for n in range(1000)))


def rows(length: int) -> Rows:
    ones = jnp.ones((1, length), jnp.int32)
    return Rows(ones, ones, jnp.arange(length)[None], ones)


@pytest.mark.parametrize(("kind", "lora"), [("llama", False), ("gpt2", False), ("t5", False), ("llama", True)])
def test_as_many_as_xla_counts(kind: str, lora: bool, tmp_path: Path) -> None:
    student = make(kind, lora, tmp_path / "student")
    head = jax.eval_shape(student.head, student.shapes).shape
    flops = StepFlops.of(student.shapes_by_path, head)
    batch = PackedBatch(
        rows(TEXT),
        rows(SOURCE) if kind == "t5" else None,
        jnp.arange(LABELS),
        jnp.ones(LABELS, jnp.int32),
        jnp.ones(LABELS),
    )
    frozen, trained = student.split(student.shapes)

    def loss(trained: Any, frozen: Any, batch: PackedBatch) -> jax.Array:
        return batch_loss(student, student.join(frozen, trained), batch)

    compiled = jax.jit(jax.grad(loss)).lower(trained, frozen, batch).compile()
    counted = compiled.cost_analysis()["flops"]
    lengths = np.array([[TEXT, SOURCE] if kind == "t5" else [TEXT]])
    ours = flops.total(lengths, np.array([LABELS]))
    # The compiled program also computes the scores of later tokens and hides them.
    ours += flops.causal * (TEXT**2 - TEXT * (TEXT + 1) / 2)
    if (
        lora
    ):  # where nothing is trained before the first layer, its input's gradient is not computed: here, of all layers
        shapes = student.shapes_by_path
        first = sum(np.prod(shapes[f"layers/attention/{name}/kernel"].shape) for name in "qkv")
        ours -= 2 * TEXT * first
    assert ours == pytest.approx(counted, rel=0.05)


def test_parts_by_hand(tmp_path: Path) -> None:
    """Llama's: 6 x weights a token, 12 x width and layer a pair of tokens, the head at labels only."""
    student = write_case("llama", tmp_path)
    flops = StepFlops.of(student.shapes_by_path, (97, 48))
    weights = 3 * (48 * 48 + 48 * 16 * 2 + 48 * 48 + 3 * 48 * 77)
    assert flops.text == 6 * weights
    assert flops.causal == 12 * 3 * 48
    assert flops.label == 6 * 97 * 48
    two = flops.total(np.array([[5], [2]]), np.array([3, 1]))
    assert two == 7 * flops.text + (15 + 3) * flops.causal + 4 * flops.label


def device(kind: str) -> Any:
    return types.SimpleNamespace(platform="gpu" if "NVIDIA" in kind else "tpu", device_kind=kind)


def test_peaks() -> None:
    assert peak_flops([device("TPU v5 lite")] * 4, "bfloat16") == pytest.approx(4 * 197e12)
    assert peak_flops([device("TPU v5")], "bfloat16") == pytest.approx(459e12)
    assert peak_flops([device("NVIDIA A100-SXM4-80GB")], "float32") == pytest.approx(19.5e12)
    assert peak_flops([device("NVIDIA H100 PCIe")], "bfloat16") == pytest.approx(756e12)
    assert peak_flops([device("NVIDIA H200")], "bfloat16") == pytest.approx(989e12)
    assert peak_flops([device("NVIDIA GeForce")], "bfloat16") is None
    began = time.monotonic()
    measured = peak_flops(jax.devices("cpu"), "float32")
    assert time.monotonic() - began < 2  # 0.3 s on an idle machine
    assert measured is not None
    assert 1e8 < measured < 1e14
