"""Dropout is a function of trial, step, record and position: packing and slots cannot change it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ftcot_jax.students.dropout import Dropout, Noise, drop, dropout_seed
from ftcot_jax.students.load import load_student
from ftcot_jax.students.settings import StudentSettings
from ftcot_jax.students.student import Student
from tests.students.test_parity import PACKED, PADDED, Layout

RECORDS = np.array([0, 700, 31, 9])
"""Record numbers of the texts by segment id; 0 is padding."""


@functools.partial(jax.jit, static_argnums=0)
def hidden(student: Student, params: Any, layout: Layout, seed: jax.Array | None) -> jax.Array:
    """Hidden states at the real tokens, texts in order, so that layouts can be compared."""

    def noise(segments: np.ndarray) -> Dropout | None:
        return None if seed is None else Dropout(seed, jnp.asarray(RECORDS)[segments])

    if student.kind == "decoder":
        rows = layout.texts
        h = student.hidden(params, *rows[:3], dropout=noise(rows.segments))
    else:
        rows, sources = layout.targets, layout.sources
        source = student.source_hidden(params, *sources[:3], dropout=noise(sources.segments))
        h = student.target_hidden(params, source, *sources[1:3], *rows[:3], dropout=noise(rows.segments))
    return h[rows.row, rows.column]


@pytest.mark.parametrize("case", ["gpt2", "t5"])
def test_packing_does_not_change_what_is_dropped(case: str, written: Callable[[str], Student]) -> None:
    student = written(case)
    params, seed = student.load(), dropout_seed(3, 10)
    padded, packed = (hidden(student, params, layout, seed) for layout in (PADDED, PACKED))
    np.testing.assert_allclose(packed, padded, atol=2e-5)
    assert np.abs(padded - hidden(student, params, PADDED, None)).max() > 0.1
    for other in (dropout_seed(3, 11), dropout_seed(4, 10)):
        assert np.abs(padded - hidden(student, params, PADDED, other)).max() > 0.1


def test_dropout_can_be_switched_off(written: Callable[[str], Student]) -> None:
    student = written("gpt2")
    off = load_student(StudentSettings(checkpoint=str(student.folder), dropout=False))
    params = student.load()
    without = hidden(off, params, PADDED, dropout_seed(3, 10))
    assert np.array_equal(without, hidden(off, params, PADDED, None))
    np.testing.assert_allclose(without, hidden(student, params, PADDED, None), atol=1e-6)


def test_llama_drops_attention_weights_when_its_config_says_so() -> None:
    fields = {"model_type": "llama", "hidden_size": 16, "intermediate_size": 20, "num_attention_heads": 2}
    settings = StudentSettings(scratch=fields | {"num_hidden_layers": 2, "attention_dropout": 0.5})
    student = load_student(settings, [f"w{number}" for number in range(90)])
    params, seed = student.init(jax.random.key(0)), dropout_seed(0, 0)
    padded, packed = (hidden(student, params, layout, seed) for layout in (PADDED, PACKED))
    np.testing.assert_allclose(packed, padded, atol=2e-5)
    assert np.abs(padded - hidden(student, params, PADDED, None)).max() > 1e-3


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_rate_mean_and_independence(rate: float) -> None:
    """The share dropped is the rate, the mean is kept, and sites, tokens, layers and steps are unlike."""
    records = np.repeat(np.arange(20), 50)[None]
    positions = jnp.asarray(np.tile(np.arange(50), 20)[None])

    def mask(step: int = 0, layer: int = 0, site: int = 0) -> np.ndarray:
        noise = Noise.of(Dropout(dropout_seed(0, step), jnp.asarray(records)), positions)
        assert noise is not None
        return np.asarray(drop(jnp.ones((1, 1000, 64)), noise.of_layer(jnp.int32(layer)), rate, site))[0]

    first = mask()
    assert abs((first == 0).mean() - rate) < 5 * np.sqrt(rate / first.size)
    assert abs(first.mean() - 1) < 0.02
    others = [mask(step=1), mask(layer=1), mask(site=1), np.roll(first, 1, 0), np.roll(first, 1, 1)]
    for other in others:
        assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.02
    per_token, per_feature = (first == 0).mean(1), (first == 0).mean(0)
    assert per_token.std() < 1.2 * np.sqrt(rate * (1 - rate) / 64)
    assert per_feature.std() < 1.5 * np.sqrt(rate * (1 - rate) / 1000)


def test_slots_drop_by_their_own_seeds(written: Callable[[str], Student]) -> None:
    student = written("gpt2")
    params = student.load()
    seeds = jnp.stack([dropout_seed(0, 5), dropout_seed(1, 5)])
    records = jnp.asarray(RECORDS[PADDED.texts.segments])

    def run(seed: jax.Array) -> jax.Array:
        return student.hidden(params, *PADDED.texts[:3], dropout=Dropout(seed, records))

    together = jax.jit(jax.vmap(run))(seeds)
    for slot, seed in enumerate(seeds):
        np.testing.assert_allclose(together[slot], run(seed), atol=2e-5)
