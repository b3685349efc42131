"""Paired tests against published and hand-computed values, and against all sign flips written out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import binomtest

from ftcot_jax.evaluation.paired import compare, holm, mcnemar


def test_mcnemar_against_known_values() -> None:
    # 2 x sum of C(n, i) / 2^n for i up to the smaller count, by hand.
    assert mcnemar(1, 9) == 2 * (1 + 10) / 1024  # 0.0215
    assert mcnemar(9, 1) == mcnemar(1, 9)
    assert mcnemar(0, 5) == 2 / 32
    assert mcnemar(5, 5) == mcnemar(0, 0) == 1.0
    # Agresti, Categorical Data Analysis (1990), p. 350: approval of a prime minister asked twice, 86 and 150 changed.
    for pair in [(86, 150), (3, 17), (40, 41), (0, 1)]:
        assert mcnemar(*pair) == pytest.approx(binomtest(pair[0], sum(pair)).pvalue, rel=1e-9)
    assert mcnemar(86, 150) == pytest.approx(3.716e-5, rel=1e-3)


def test_one_seed_is_mcnemar() -> None:
    first = {number: [int(number < 10)] for number in range(30)}
    second = {number: [int(number in (0, 1, 29))] for number in range(30)}
    paired = compare(first, second)
    assert (paired.questions, paired.unpaired, paired.first_better, paired.second_better) == (30, 0, 8, 1)
    assert paired.difference == pytest.approx(7 / 30)
    assert paired.p == mcnemar(8, 1)


def brute(differences: list[int]) -> float:
    sums = [
        abs(sum(sign * value for sign, value in zip(signs, differences, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    return float(np.mean([value >= abs(sum(differences)) for value in sums]))


def test_several_seeds_against_all_sign_flips() -> None:
    rng = np.random.default_rng(0)
    for seeds in (2, 3, 5):
        first = {number: rng.integers(0, 2, seeds).tolist() for number in range(11)}
        second = {number: rng.integers(0, 2, seeds).tolist() for number in range(11)}
        differences = [sum(first[number]) - sum(second[number]) for number in range(11)]
        assert compare(first, second).p == pytest.approx(brute(differences), abs=1e-12)
        assert compare(second, first).p == pytest.approx(compare(first, second).p)


def test_the_same_seed_three_times_proves_no_more_than_once() -> None:
    once = ({number: [1] for number in range(6)}, {number: [int(number < 1)] for number in range(6)})
    thrice = tuple({number: row * 3 for number, row in arm.items()} for arm in once)
    assert compare(*thrice).p == compare(*once).p == mcnemar(5, 0)


def test_an_arm_asked_once_beside_one_of_three_seeds() -> None:
    single = {number: [0] for number in range(6)}
    three = {number: [1, int(number < 3), 0] for number in range(6)}
    paired = compare(three, single)
    assert paired.difference == pytest.approx((3 * 2 / 3 + 3 * 1 / 3) / 6)
    assert paired.p == pytest.approx(brute([2, 2, 2, 1, 1, 1]))
    assert paired.first_better == 6


def test_questions_that_only_one_was_asked_are_counted() -> None:
    paired = compare({1: [1], 2: [0], 3: [1]}, {2: [1], 3: [1], 4: [0]})
    assert (paired.questions, paired.unpaired, paired.second_better) == (2, 2, 1)
    assert compare({1: [1]}, {2: [1]}).p == 1.0


def test_chance_is_called_chance() -> None:
    rng = np.random.default_rng(1)
    found = []
    for _ in range(300):
        first, second = ({number: row.tolist() for number, row in enumerate(rng.integers(0, 2, (40, 3)))} for _ in "ab")
        found.append(compare(first, second).p < 0.05)
    assert 0.01 < np.mean(found) < 0.09


def test_a_large_comparison_is_exact_and_fast() -> None:
    first = {number: [1, 1, number % 2] for number in range(5000)}
    second = {number: [1, 0, number % 2] if number % 3 else [1, 1, 1 - number % 2] for number in range(5000)}
    paired = compare(first, second)
    assert 0 <= paired.p < 1e-100
    assert paired.questions == 5000


def test_holm_against_a_worked_example() -> None:
    # p = .01 .02 .03 .04 of four tests: .04, .06, .06, .06.
    assert holm([0.01, 0.04, 0.03, 0.02]) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
