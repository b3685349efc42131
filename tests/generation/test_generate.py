"""Greedy text equals PyTorch `transformers` token for token, whatever the batch, the order and the limits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ftcot_jax.errors import FtcotError
from ftcot_jax.generation.decode import decode_chunk
from ftcot_jax.generation.generate import Generated, generate
from ftcot_jax.students.load import load_student
from ftcot_jax.students.settings import StudentSettings
from ftcot_jax.students.student import Student
from tests.students.cases import PROMPT_LENGTHS, TEXTS
from tests.students.conftest import case, written
from tests.students.torch_oracle import GOLDENS, MAX_LENGTH

__all__ = ["case", "written"]  # fixtures of the room whose students we run

PROMPTS = [text[:prompt] for text, prompt in zip(TEXTS, PROMPT_LENGTHS, strict=True)]


def many_prompts(count: int) -> list[list[int]]:
    draw = np.random.default_rng(0)
    return [draw.integers(2, 90, size=draw.integers(1, 40)).tolist() for _ in range(count)]


def one_by_one(student: Student, params: Any, prompts: list[list[int]], length: int) -> list[Generated]:
    """Greedy decoding to `length` tokens, with the whole text run anew for every token."""

    @jax.jit
    def next_token(source: jax.Array, row: jax.Array, last: jax.Array) -> jax.Array:
        positions = jnp.arange(row.shape[2])[None]
        if student.kind == "decoder":
            h = student.hidden(params, *row, positions)
        else:
            encoded = student.source_hidden(params, *source, positions)
            h = student.target_hidden(params, encoded, source[1], positions, *row, positions)
        return jnp.argmax(h[0, last] @ student.head(params).T)

    def padded(tokens: list[int]) -> np.ndarray:
        row = np.zeros((2, 1, 64), np.int32)
        row[0, 0, : len(tokens)], row[1, 0, : len(tokens)] = tokens, 1
        return row

    results = []
    for prompt in prompts:
        text = list(prompt) if student.kind == "decoder" else [student.start_id]
        first, reason = len(text), "length"
        while len(text) < length:
            token = int(next_token(padded(prompt), padded(text), len(text) - 1))
            if token == student.eos_id:
                reason = "stop"
                break
            text.append(token)
        results.append(Generated(text[first:], reason))  # type: ignore[arg-type]
    return results


def test_equals_transformers(case: str, written: Callable[[str], Student]) -> None:
    student = written(case)
    golden = np.load(GOLDENS / f"{case}.npz", allow_pickle=False)
    for result, row in zip(generate(student, student.load(), PROMPTS, max_length=MAX_LENGTH), range(3), strict=True):
        expected = golden[f"greedy/{row}"].tolist()
        if result.finish_reason == "stop":
            assert expected == [*result.tokens, student.eos_id]
        else:
            assert expected == result.tokens
            start = 1 if student.kind == "encoder_decoder" else len(PROMPTS[row])
            assert start + len(expected) == MAX_LENGTH


@pytest.mark.parametrize("case", [pytest.param("llama", marks=pytest.mark.slow), "gpt2", "t5"])
def test_neither_batch_nor_order_matters(case: str, written: Callable[[str], Student]) -> None:
    student = written(case)
    params, prompts = student.load(), many_prompts(11)
    params["embed"] = params["embed"].at[student.eos_id].mul(3.0)  # likelier, where the head is tied
    slow = one_by_one(student, params, prompts, 60)
    assert {result.finish_reason for result in slow} == {"stop", "length"}
    for rows in (3, 8):
        assert generate(student, params, prompts, max_length=60, batch_rows=rows) == slow
    assert generate(student, params, prompts[::-1], max_length=60, batch_rows=8) == slow[::-1]


def test_limits(written: Callable[[str], Student]) -> None:
    student = written("llama")
    params, prompt = student.load(), TEXTS[0]
    never_ends = generate(student, params, [prompt], max_length=10_000)[0]
    assert len(prompt) + len(never_ends.tokens) <= student.context_length == 96
    short, exact = (
        generate(student, params, [prompt], max_length=limit)[0] for limit in (len(prompt), len(prompt) + 1)
    )
    assert short == Generated([], "prompt_too_long")
    assert exact == Generated(never_ends.tokens[:1], "length")
    few = generate(student, params, [prompt, TEXTS[1]], max_length=90, max_new_tokens=5)
    assert few[0] == Generated(never_ends.tokens[:5], "length")
    assert len(few[1].tokens) <= 5


def test_an_end_token_in_the_last_place_is_a_stop(written: Callable[[str], Student]) -> None:
    student = written("llama")
    params = student.load()
    results = generate(student, params, many_prompts(11), max_length=60)
    number, ended = next((n, r) for n, r in enumerate(results) if r.finish_reason == "stop" and r.tokens)
    prompt, size = many_prompts(11)[number], len(ended.tokens)
    assert generate(student, params, [prompt], max_length=96, max_new_tokens=size + 1) == [ended]
    cut = Generated(ended.tokens, "length")
    assert generate(student, params, [prompt], max_length=96, max_new_tokens=size) == [cut]


def test_progress_counts_up_to_all(written: Callable[[str], Student]) -> None:
    student = written("llama")
    seen: list[tuple[int, int]] = []
    prompts = [*many_prompts(5), [3] * 200]
    results = generate(
        student, student.load(), prompts, max_length=60, batch_rows=2, on_progress=lambda *p: seen.append(p)
    )
    assert results[5] == Generated([], "prompt_too_long")
    assert seen == sorted(seen)
    assert seen[-1] == (6, 6)
    assert generate(student, student.load(), [], max_length=60) == []


def test_bad_prompts_are_named(written: Callable[[str], Student]) -> None:
    student = written("llama")
    params = student.load()
    with pytest.raises(FtcotError, match="prompt 1 is empty"):
        generate(student, params, [[3], []], max_length=20)
    with pytest.raises(FtcotError, match="prompt 0 holds token 97, and the student has 97 tokens"):
        generate(student, params, [[3, 97]], max_length=20)


def test_students_of_the_same_shapes_share_the_programs(written: Callable[[str], Student]) -> None:
    student = written("llama")
    first, second = student.load(), student.init(jax.random.key(1))
    texts = generate(student, first, PROMPTS, max_length=30)
    compiled = decode_chunk._cache_size()
    again = load_student(StudentSettings(checkpoint=str(student.folder)))
    assert generate(again, second, PROMPTS, max_length=30) != texts
    assert decode_chunk._cache_size() == compiled
