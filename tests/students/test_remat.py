"""Rematerialisation changes what is stored, not what is computed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ftcot_jax.students.load import load_student
from ftcot_jax.students.settings import StudentSettings
from ftcot_jax.students.student import Student
from tests.students.test_parity import PACKED, loss_and_gradients


@pytest.mark.parametrize("remat", ["cheap", "dots", "full"])
@pytest.mark.parametrize("case", ["llama", "t5"])
def test_remat_changes_nothing(case: str, remat: Any, written: Callable[[str], Student]) -> None:
    plain = written(case)
    other = load_student(StudentSettings(checkpoint=str(plain.folder), remat=remat))
    params = plain.load()
    assert plain != other
    value, gradients = loss_and_gradients(plain, params, PACKED)
    again, repeated = loss_and_gradients(other, params, PACKED)
    np.testing.assert_allclose(value, again, rtol=1e-6)
    for ours, theirs in zip(jax.tree.leaves(gradients), jax.tree.leaves(repeated), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def test_what_was_left_open_is_chosen_by_platform(written: Callable[[str], Student]) -> None:
    plain = written("llama")
    assert plain.compute.remat == "auto"
    for platform, remat in (("tpu", "dots"), ("gpu", "cheap"), ("cpu", "cheap")):
        chosen = plain.on(platform)
        assert chosen.compute == dataclasses.replace(plain.compute, remat=remat)
        assert (chosen.shapes_by_path, chosen.folder) == (plain.shapes_by_path, plain.folder)
    other = load_student(StudentSettings(checkpoint=str(plain.folder), attention="cudnn", dtype="bfloat16"))
    assert other.on("gpu").compute.remat == "none", "its kernel would run twice"
    full = load_student(StudentSettings(checkpoint=str(plain.folder), remat="full"))
    assert full.on("tpu").compute.remat == full.on("cpu").compute.remat == "full"


@pytest.mark.parametrize(("remat", "kept"), [("none", 2), ("cheap", 1), ("dots", 0), ("full", 0)])
def test_attention_keeps_so_many_numbers_a_pair_of_places(remat: Any, kept: int) -> None:
    """Arrays (layers, ..., L, L) that the forward pass hands to the backward pass."""
    fields = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4}
    student = load_student(StudentSettings(scratch=fields | {"num_hidden_layers": 3}, remat=remat), ["a", "b"])
    row = jnp.ones((2, 40), jnp.int32)
    gradient = jax.grad(lambda params: student.hidden(params, row, row, row).sum())
    scans = [one for one in jax.make_jaxpr(gradient)(student.shapes).eqns if one.primitive.name == "scan"]
    forward = [leaf.aval for leaf in scans[0].outvars]
    assert sum(leaf.shape[-2:] == (40, 40) and leaf.dtype == jnp.float32 for leaf in forward) == kept


@pytest.mark.slow
def test_remat_saves_memory() -> None:
    """Compiled memory of a backward pass, also with a slot axis: full < dots < cheap < none."""
    fields = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 256, "num_attention_heads": 4}

    def temporary_bytes(remat: Any, slots: bool) -> int:
        settings = StudentSettings(scratch=fields | {"num_hidden_layers": 12}, remat=remat)
        student = load_student(settings, ["a", "b"])
        row = jnp.ones((8, 128), jnp.int32)
        gradient = jax.grad(lambda params: student.hidden(params, row, row, row).sum())
        shapes = student.shapes
        if slots:
            gradient = jax.vmap(gradient)
            shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((2, *leaf.shape), leaf.dtype), shapes)
        return jax.jit(gradient).lower(shapes).compile().memory_analysis().temp_size_in_bytes

    for slots in (False, True):
        none, cheap, dots, full = (temporary_bytes(remat, slots) for remat in ("none", "cheap", "dots", "full"))
        assert full < 0.8 * dots < 0.7 * none
        assert dots < cheap < 0.8 * none
