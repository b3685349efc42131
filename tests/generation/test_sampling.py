"""Samples follow the exact distribution, and depend on seed, prompt and number alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import ValidationError

from ftcot_jax.generation import board
from ftcot_jax.generation.generate import generate
from ftcot_jax.generation.sampling import Sampling, choose, restrict
from ftcot_jax.students.student import Student
from tests.generation.test_generate import many_prompts
from tests.students.conftest import written

__all__ = ["written"]


def chi_square_is_plausible(counts: np.ndarray, probability: np.ndarray) -> bool:
    """Whether counts fit; cells expected below five are pooled. Five standard deviations are allowed."""
    expected = probability * counts.sum()
    small = expected < 5
    counts = np.append(counts[~small], counts[small].sum())
    expected = np.append(expected[~small], expected[small].sum())
    counts, expected = counts[expected > 0], expected[expected > 0]
    statistic, freedom = ((counts - expected) ** 2 / expected).sum(), len(counts) - 1
    return abs(statistic - freedom) < 5 * np.sqrt(2 * freedom)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(),
        Sampling(temperature=0.7, seed=3),
        Sampling(top_k=7),
        Sampling(temperature=1.3, top_p=0.8),
        Sampling(top_k=20, top_p=0.5),
    ],
    ids=str,
)
def test_draws_follow_the_distribution(sampling: Sampling) -> None:
    logits = jnp.asarray(np.random.default_rng(0).normal(size=40) * 2, jnp.float32)[None]
    draws = 20_000
    seeds = jnp.arange(draws, dtype=jnp.uint32)
    tokens = choose(jnp.broadcast_to(logits, (draws, 40)), sampling, seeds, jnp.full(draws, 11))
    counts = np.bincount(np.asarray(tokens), minlength=40)
    exact = np.asarray(jax.nn.softmax(restrict(logits, sampling), axis=-1))[0]
    assert chi_square_is_plausible(counts, exact)
    assert not chi_square_is_plausible(counts, np.roll(exact, 1))
    assert counts[exact == 0].sum() == 0


def test_filters_keep_what_they_say() -> None:
    probability = np.array([0.05, 0.4, 0.3, 0.15, 0.1])
    logits = jnp.log(jnp.asarray(probability, jnp.float32))[None]

    def kept(**fields: Any) -> list[int]:
        return np.flatnonzero(np.isfinite(restrict(logits, Sampling(**fields))[0])).tolist()

    assert kept() == [0, 1, 2, 3, 4]
    assert kept(top_k=2) == [1, 2]
    assert kept(top_p=0.35) == [1]
    assert kept(top_p=0.6) == [1, 2]
    assert kept(top_p=0.8) == [1, 2, 3]
    assert kept(top_k=3, top_p=0.8) == [1, 2]
    for bad in ({"temperature": 0}, {"top_p": 0}, {"top_p": 1.1}, {"top_k": 0}, {"samples": 0}):
        with pytest.raises(ValidationError):
            Sampling(**bad)


@pytest.mark.parity
@pytest.mark.parametrize("fields", [{"top_k": 7}, {"top_p": 0.6}, {"temperature": 0.5, "top_p": 0.9}])
def test_filters_equal_transformers(fields: dict[str, Any]) -> None:
    import torch
    from transformers.generation.logits_process import (
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    logits = np.random.default_rng(1).normal(size=(5, 60)).astype(np.float32) * 3
    theirs = torch.tensor(logits)
    for name, warper in (
        ("temperature", TemperatureLogitsWarper),
        ("top_k", TopKLogitsWarper),
        ("top_p", TopPLogitsWarper),
    ):
        if name in fields:
            theirs = warper(fields[name])(None, theirs)
    ours = restrict(jnp.asarray(logits), Sampling(**fields))
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-6)


@pytest.mark.slow
def test_samples_do_not_depend_on_the_batch(written: Callable[[str], Student]) -> None:
    student = written("llama")
    params, prompts = student.load(), many_prompts(5)
    sampling = Sampling(temperature=1.5, samples=3, seed=9)
    settings: dict[str, Any] = {"max_length": 60, "sampling": sampling}
    together = generate(student, params, prompts, batch_rows=16, **settings)
    assert len(together) == 15
    reversed_rows = generate(student, params, prompts[::-1], batch_rows=4, **settings)
    for number in range(5):
        expected = together[3 * number : 3 * number + 3]
        assert reversed_rows[3 * (4 - number) : 3 * (4 - number) + 3] == expected
        assert len({tuple(sample.tokens) for sample in expected}) == 3
    assert generate(student, params, prompts[2:3], **settings) == together[6:9]
    other = sampling.model_copy(update={"seed": 10})
    assert generate(student, params, prompts, max_length=60, sampling=other) != together


@pytest.mark.parametrize("case", ["llama", pytest.param("gpt2", marks=pytest.mark.slow), "t5"])
def test_samples_of_one_prompt_read_it_once(
    case: str, written: Callable[[str], Student], monkeypatch: pytest.MonkeyPatch
) -> None:
    student = written(case)
    params, prompts = student.load(), many_prompts(3)
    tokens = sum(len(prompt) - (student.kind == "decoder") for prompt in prompts)
    how: dict[str, Any] = {"max_length": 60, "sampling": Sampling(temperature=1.5, samples=6, seed=9)}
    read: list[int] = []
    prefill = board.prefill

    def counted(*given: Any) -> Any:
        read.append(int(given[-1].sum()))
        return prefill(*given)

    monkeypatch.setattr(board, "prefill", counted)
    alone = generate(student, params, prompts, batch_rows=1, **how)
    assert sum(read) == 6 * tokens  # no other row has read it
    for rows in (32, 5):
        read.clear()
        assert generate(student, params, prompts, batch_rows=rows, **how) == alone
        assert tokens <= sum(read) < (2 if rows == 5 else 1.01) * tokens
    assert len({tuple(row.tokens) for row in alone}) > 12


def test_a_cold_draw_is_the_likeliest_token(written: Callable[[str], Student]) -> None:
    student = written("llama")
    params, prompts = student.load(), many_prompts(4)
    cold = generate(student, params, prompts, max_length=50, sampling=Sampling(temperature=1e-4))
    assert cold == generate(student, params, prompts, max_length=50)


def test_a_stop_string_ends_the_text_before_it(written: Callable[[str], Student]) -> None:
    student = written("llama")
    params, prompt = student.load(), many_prompts(4)[1]
    (free,) = generate(student, params, [prompt], max_length=60)
    words = student.decode([free.tokens])[0].split()
    place = next(place for place in range(3, len(words)) if words[place] not in words[:place])
    for string in (words[place], f"{words[place - 1]} {words[place]}"):
        (cut,) = generate(student, params, [prompt], max_length=60, stop=["nowhere", string])
        assert cut.finish_reason == "stop"
        text = student.decode([cut.tokens])[0]
        assert string not in text
        assert " ".join(words).startswith(text)
        assert len(cut.tokens) == place - string.count(" ")
    assert generate(student, params, [prompt], max_length=60, stop=["nowhere"]) == [free]
