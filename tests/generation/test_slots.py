"""One call writes for many students; on eight devices, and spread in any way, the tokens are those of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ftcot_jax.generation import generate as generation
from ftcot_jax.generation.decode import Rows, decode_chunk, lay_out, new_cache
from ftcot_jax.generation.generate import Generated, generate, generate_many
from ftcot_jax.generation.sampling import Sampling
from ftcot_jax.students.load import load_student
from ftcot_jax.students.settings import LoraSettings, StudentSettings
from ftcot_jax.students.student import Student
from ftcot_jax.training.mesh import make_mesh, params_shardings, state_shardings
from ftcot_jax.training.settings import MeshSettings
from tests.students.conftest import written

__all__ = ["written"]

LENGTH = 32


def prompts_of(count: int, seed: int) -> list[list[int]]:
    draw = np.random.default_rng(seed)
    return [draw.integers(2, 90, size=draw.integers(1, 12)).tolist() for _ in range(count)]


def students(student: Student, count: int) -> list[Any]:
    return [student.init(jax.random.key(seed)) for seed in range(count)]


def stack(params: Sequence[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)


def one_at_a_time(
    student: Student, params: Sequence[Any], prompts: Sequence[list[list[int]]], **how: Any
) -> list[list[Generated]]:
    return [generate(student, own, asked, max_length=LENGTH, **how) for own, asked in zip(params, prompts, strict=True)]


@pytest.mark.parametrize("case", ["llama", *(pytest.param(case, marks=pytest.mark.slow) for case in ("gpt2", "t5"))])
def test_slots_spread_over_trial_equal_students_alone(case: str, written: Callable[[str], Student]) -> None:
    student = written(case)
    params = students(student, 4)
    prompts = [prompts_of(5, 0), [], prompts_of(3, 1), prompts_of(1, 2)]
    alone = one_at_a_time(student, params, prompts)
    assert len({tuple(row.tokens) for slot in alone for row in slot}) >= 4  # a random T5 repeats one token
    mesh = make_mesh(MeshSettings(trial=4, data=2))
    slots = jax.device_put(stack(params), state_shardings(mesh, student.sharding_rules, stack(params)))
    assert generate_many(student, slots, prompts, max_length=LENGTH, batch_rows=4) == alone


@pytest.mark.parametrize("case", ["llama", "gpt2", pytest.param("t5", marks=pytest.mark.slow)])
def test_one_student_spread_over_rows_and_heads_equals_it_on_one_device(
    case: str, written: Callable[[str], Student]
) -> None:
    student = written(case)
    (params,), prompts = students(student, 1), prompts_of(7, 3)
    whole = generate(student, params, prompts, max_length=LENGTH)
    mesh = make_mesh(MeshSettings(data=2, fsdp=2, tensor=2))
    spread = jax.device_put(params, params_shardings(mesh, student.sharding_rules, params))
    assert generate(student, spread, prompts, max_length=LENGTH, batch_rows=8) == whole


def test_slots_without_prompts_are_left_out_where_the_others_lie(
    written: Callable[[str], Student], monkeypatch: pytest.MonkeyPatch
) -> None:
    student = written("llama")
    params, none = students(student, 8), list[list[int]]()
    prompts = [none, prompts_of(3, 0), none, none, prompts_of(2, 1), none, none, none]
    alone = one_at_a_time(student, params, prompts)
    laid: list[Any] = []
    lay_out = generation.lay_out

    def counted(*given: Any) -> Any:
        laid.append((given[-1].tolist(), lay_out.lower(*given).compile().as_text(), lay_out(*given)))
        return laid[-1][-1]

    monkeypatch.setattr(generation, "lay_out", counted)
    assert generate_many(student, stack(params), prompts, max_length=LENGTH) == alone
    mesh = make_mesh(MeshSettings(trial=4, data=2))
    slots = jax.device_put(stack(params), state_shardings(mesh, student.sharding_rules, stack(params)))
    assert generate_many(student, slots, prompts, max_length=LENGTH) == alone
    (on_one, _, two), (on_four, text, four) = laid
    assert on_one == [[1, 4]]
    assert on_four == [[1], [0], [0], [0]]  # of each device's two slots the one that writes
    assert {len(leaf) for leaf in jax.tree.leaves(two)} == {2}
    assert {len(leaf) for leaf in jax.tree.leaves(four)} == {4}
    assert not any(f" {name}(" in text for name in COLLECTIVES)


def test_samples_are_the_same_in_any_slot(written: Callable[[str], Student]) -> None:
    student = written("llama")
    params, prompts = students(student, 2), [prompts_of(3, 0), prompts_of(2, 1)]
    sampling = Sampling(temperature=1.2, samples=2, seed=5)
    together = generate_many(student, stack(params), prompts, max_length=LENGTH, sampling=sampling)
    assert together == one_at_a_time(student, params, prompts, sampling=sampling)


def test_each_text_may_have_a_limit_of_its_own(written: Callable[[str], Student]) -> None:
    student = written("llama")
    params, prompts = students(student, 2), [prompts_of(2, 0), prompts_of(1, 1)]
    free = generate_many(student, stack(params), prompts, max_length=LENGTH, ignore_end=True)
    cut = generate_many(student, stack(params), prompts, max_length=LENGTH, max_new_tokens=[[3, 0], [5]])
    assert [[len(row.tokens) for row in slot] for slot in free] == [[LENGTH - len(p) for p in s] for s in prompts]
    assert [[len(row.tokens) for row in slot] for slot in cut] == [[3, 0], [5]]


@pytest.mark.slow
def test_adapters_of_many_students_share_one_base(written: Callable[[str], Student]) -> None:
    folder = written("llama").folder
    student = load_student(StudentSettings(checkpoint=str(folder), lora=LoraSettings(rank=2)))
    frozen, first = student.split(student.load())
    draw = np.random.default_rng(0)
    noisy = [jax.tree.map(lambda leaf: leaf + 0.3 * draw.normal(size=leaf.shape), first) for _ in range(2)]
    prompts = [prompts_of(3, 0), prompts_of(3, 0)]
    alone = one_at_a_time(student, [student.join(frozen, own) for own in noisy], prompts)
    assert alone[0] != alone[1]
    assert generate_many(student, stack(noisy), prompts, max_length=LENGTH, frozen=frozen) == alone


def test_students_on_devices_of_their_own_send_each_other_nothing_but_whether_to_go_on(
    written: Callable[[str], Student],
) -> None:
    student = written("gpt2")
    mesh = make_mesh(MeshSettings(trial=4, data=2))
    params = stack(students(student, 4))
    places = state_shardings(mesh, student.sharding_rules, params)
    weights = lay_out(student, jax.device_put(params, places), None, np.zeros((4, 1), np.int32))
    cache = new_cache(student, mesh, 4, 4, 64, 0)
    numbers = [np.zeros((4, 4), np.int32) for _ in range(3)]
    rows = Rows(*numbers, np.zeros((4, 4), np.uint32))  # type: ignore[arg-type]
    compiled = decode_chunk.lower(student, mesh, weights, cache, rows, np.int32(0), np.int32(1), None, 8).compile()
    text = compiled.as_text()
    assert text is not None
    sent = [line for line in text.splitlines() if any(f" {name}(" in line for name in COLLECTIVES)]
    largest = max(_elements(line) for line in sent)
    assert largest <= 4 * 4 * 8  # the tokens written; no weights and no cache
    for leaf in jax.tree.leaves(cache):
        assert leaf.addressable_shards[0].data.size * 8 == leaf.size


COLLECTIVES = ("all-gather", "all-reduce", "all-to-all", "collective-permute", "reduce-scatter")


def _elements(line: str) -> int:
    shape = line.split("= ")[1].split("[")[1].split("]")[0]
    return int(np.prod([int(size) for size in shape.split(",") if size] or [1]))
