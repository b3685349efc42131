"""Intervals against published values and simulation."""

from __future__ import annotations

import numpy as np
import pytest

from ftcot_jax.evaluation.intervals import over_seeds, wilson


def test_wilson_against_known_values() -> None:
    # Newcombe, Statistics in Medicine 1998, table I: 81/263, 15/148, 0/20, 1/29.
    for correct, total, low, high in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ]:
        interval = wilson(correct, total)
        assert (round(interval.low, 4), round(interval.high, 4)) == (low, high)
    with pytest.raises(ValueError, match="3 of 2 is not a share"):
        wilson(3, 2)


def test_over_seeds_covers_both_kinds_of_chance() -> None:
    rng = np.random.default_rng(0)
    one = over_seeds([rng.random(200) < 0.5])
    assert 0.10 < one.high - one.low < 0.17  # binomial: 2 x 1.96 x sqrt(.25 / 200) = 0.139
    apart = over_seeds([[True] * 180 + [False] * 20, [True] * 20 + [False] * 180])
    assert apart.low < 0.15
    assert apart.high > 0.85
    same = over_seeds([[True] * 100 + [False] * 100] * 16)
    assert same.high - same.low < 0.05
    assert over_seeds([[True, False]] * 3) == over_seeds([[True, False]] * 3)


def test_texts_of_one_question_are_not_independent() -> None:
    rng = np.random.default_rng(0)
    always_alike = [8 * int(right) for right in rng.random(200) < 0.5]
    together = over_seeds([always_alike], samples=8)
    alone = over_seeds([[right // 8 for right in always_alike]])
    assert together.high - together.low == pytest.approx(alone.high - alone.low, abs=0.01)
    independent = over_seeds([rng.binomial(8, 0.5, 200).tolist()], samples=8)
    # Of 1600 independent texts: 2 x 1.96 x sqrt(.25 / 1600) = 0.049.
    assert independent.high - independent.low == pytest.approx(0.049, abs=0.008)
