"""The benchmark runs, counts the arithmetic as it is, and gives every program the same work."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from ftcot_jax.bench.generate import bench_generate, case_rows
from ftcot_jax.bench.machine import Machine
from ftcot_jax.bench.table import Spread
from ftcot_jax.bench.writing_work import Work, needed_arithmetic, needed_seconds, published_work, with_runaways
from ftcot_jax.errors import FtcotError, UsageError
from ftcot_jax.students.student import Student
from ftcot_jax.teacher.completion import Completion, write_completions
from tests.students.conftest import written

__all__ = ["written"]


@pytest.fixture
def completions(tmp_path: Path) -> Path:
    """Six questions in words that the small students know, with rationales of one to six words."""
    rows = [
        Completion(n, 0, "w1 w2", "w3", None, " ".join(["w4"] * (n + 1)), None, "w1", "w3", "stop") for n in range(6)
    ]
    write_completions(tmp_path / "own.json", {}, rows)
    return tmp_path / "own.json"


def test_arithmetic_is_counted_by_hand(written: Callable[[str], Student]) -> None:
    student, config = written("gpt2"), written("gpt2").config
    width, inner, layers = config.n_embd, config.n_inner, config.n_layer
    weights = layers * (4 * width * width + 2 * width * inner)
    by_hand = 0
    for token in range(5 + 3 - 1):  # of the last token written nothing is computed
        by_hand += 2 * weights + 4 * layers * width * (token + 1)
    by_hand += 3 * 2 * config.vocab_size * width
    assert needed_arithmetic(student, Work([[1] * 5], [3])) == by_hand


def test_the_bound_is_of_arithmetic_or_of_bytes(written: Callable[[str], Student]) -> None:
    student, config = written("gpt2"), written("gpt2").config
    work = Work([[1] * 5, [1] * 9], [3, 7])
    slow_memory = Machine("one", "float32", flops=1e30, bandwidth=1.0)
    weights = config.n_layer * (4 * config.n_embd**2 + 2 * config.n_embd * config.n_inner)
    weights += config.vocab_size * config.n_embd
    kept = 2 * config.n_layer * config.n_embd  # keys and values of a token
    before = sum(range(5, 8)) + sum(range(9, 16))  # tokens that each one written looks back at
    # Of four rows two write: the steps are those of the longer text.
    assert needed_seconds(student, work, 4, slow_memory) == pytest.approx(4 * (7 * weights + kept * before))
    assert needed_seconds(student, work, 1, slow_memory) == pytest.approx(4 * (10 * weights + kept * before))
    slow_products = Machine("one", "float32", flops=1.0, bandwidth=1e30)
    assert needed_seconds(student, work, 1, slow_products) == pytest.approx(needed_arithmetic(student, work))


def test_the_machine_is_measured() -> None:
    machine = Machine.measure("float32")
    assert machine.flops > 1e9
    assert machine.bandwidth > 1e8
    assert machine.seconds(machine.flops, 0) == machine.seconds(0, machine.bandwidth) == 1.0
    assert "GFLOP/s and " in str(machine)


def test_one_in_so_many_runs_to_the_limit(written: Callable[[str], Student]) -> None:
    work = with_runaways(Work([[1] * (1 + n % 3) for n in range(8)], [4] * 8), written("gpt2"), 4)
    assert work.lengths == [4, 4, 93, 4, 4, 4, 93, 4]


def test_the_command_measures_and_says_so(completions: Path, written: Callable[[str], Student]) -> None:
    said: list[str] = []
    student = written("gpt2")
    with pytest.raises(FtcotError, match=r"own.json has 6 questions and the benchmark wants 7; lower --prompts"):
        published_work(student, completions, 7)
    with pytest.raises(UsageError, match="give --student, or --tokenizer"):
        _measure(completions, None, said)
    with pytest.raises(UsageError, match="encoder-decoder"):
        _measure(completions, written("t5"), said)


def test_the_rows_are_what_was_found() -> None:
    found = {
        "prompts": 6,
        "tokens": 30,
        "needed_flop": 8e9,
        "limit_flop_per_second": 4e9,
        "least_seconds": 3.0,
        "our_seconds": [4.0, 5.0, 10.0],
        "our_first_seconds": 12.0,
        "our_peak_bytes": 2e8,
    }
    (alone,) = case_rows("some", found, None)
    assert alone["prompts/s"] == Spread(1.2, 0.6, 1.5)
    assert alone["tokens/s"] == Spread(6.0, 3.0, 7.5)
    assert alone["of a large product's FLOP/s"] == Spread(0.4, 0.2, 0.5)
    assert alone["of the two-term limit"] == Spread(0.6, 0.3, 0.75)
    assert (alone["compile, s"], alone["peak memory, MB"], alone["times as fast"]) == (7.0, 200.0, None)
    beside = found | {"their_seconds": [8.0, 10.0, 10.0], "their_peak_bytes": 4e8, "ratios": [2.0, 2.0, 1.0]}
    ours, theirs = case_rows("some", beside, "transformers")
    assert ours == alone | {"times as fast": Spread(2.0, 1.0, 2.0)}
    assert (theirs["tokens/s"], theirs["compile, s"]) == (Spread(3.0, 3.0, 3.75), None)


@pytest.mark.parity
def test_both_programs_write_the_same_texts(
    completions: Path, written: Callable[[str], Student], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ftcot_jax.students.student.Student.encode", lambda _, texts: [[5] * 4 for _ in texts])
    said: list[str] = []
    figures = _measure(completions, written("gpt2"), said)
    case = figures["cases"]["published lengths"]
    assert case["equal_texts"] == case["prompts"] == 6
    assert case["tokens"] == 6 * 5
    assert math.isfinite(case["ratios"][0])
    assert json.loads((completions.parent / "figures.json").read_text()) == figures
    ours, theirs = figures["rows"]
    assert ours["prompts/s"]["median"] == pytest.approx(6 / case["our_seconds"][0])
    assert theirs["tokens/s"]["median"] == pytest.approx(30 / case["their_seconds"][0])
    assert ours["times as fast"]["median"] == pytest.approx(case["their_seconds"][0] / case["our_seconds"][0])
    assert ours["compile, s"] == pytest.approx(case["our_first_seconds"] - case["our_seconds"][0])
    assert f"| published lengths | ours | {Spread(**ours['prompts/s'])} |" in said[-1]
    assert said[-1].count("\n") == 3


def _measure(completions: Path, student: Student | None, said: list[str]) -> dict:
    return bench_generate(
        str(completions),
        checkpoint=None if student is None else str(student.folder),
        tokenizer=None,
        prompts=6,
        rows=4,
        repeats=1,
        dtype="float32",
        runaways=False,
        alone=False,
        json_file=str(completions.parent / "figures.json"),
        say=said.append,
    )
