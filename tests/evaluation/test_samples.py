"""pass@k and majority votes against hand-computed values."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from ftcot_jax.evaluation.samples import majority_is_right, mean_pass_at_k, pass_at_k
from ftcot_jax.tasks.registry import get_task
from ftcot_jax.tasks.scoring import score


def test_pass_at_k_by_hand() -> None:
    assert pass_at_k(10, 3, 1) == pytest.approx(0.3)
    assert pass_at_k(5, 2, 2) == pytest.approx(1 - 3 / 10)
    assert pass_at_k(4, 4, 2) == 1.0
    assert pass_at_k(4, 0, 4) == 0.0
    assert pass_at_k(4, 1, 4) == 1.0
    for n, c, k in ((0, 0, 1), (4, 5, 1), (4, 1, 5), (4, 1, 0)):
        with pytest.raises(ValueError, match="not defined"):
            pass_at_k(n, c, k)


def test_pass_at_k_is_the_share_of_all_subsets_and_the_papers_own_formula() -> None:
    texts = [1, 1, 0, 0, 0, 0, 0]
    for k in range(1, 8):
        subsets = list(itertools.combinations(texts, k))
        assert pass_at_k(7, 2, k) == pytest.approx(np.mean([any(subset) for subset in subsets]))
    # Chen et al. 2021, figure 3: 1 - prod(1 - k / arange(n - c + 1, n + 1)).
    n, c, k = 200, 13, 100
    assert pass_at_k(n, c, k) == pytest.approx(1 - np.prod(1 - k / np.arange(n - c + 1, n + 1)))


def test_mean_over_questions() -> None:
    assert mean_pass_at_k(4, [4, 2, 0]) == pytest.approx({1: 0.5, 2: (1 + 5 / 6) / 3, 4: 2 / 3})
    assert list(mean_pass_at_k(6, [3])) == [1, 2, 4, 6]
    assert mean_pass_at_k(1, [1, 0]) == {1: 0.5}


def vote(*texts: str) -> bool | None:
    task = get_task("multiarith")
    return majority_is_right(task, [score(task, text, "8", "-->") for text in texts], "8", "paper")


def test_majority() -> None:
    assert vote("--> 8", "--> 8", "--> 9") is True
    assert vote("--> 9", "--> 9", "--> 8") is False
    assert vote("--> 9", "--> 8") is None  # a tie
    assert vote("none", "nothing") is None
    assert vote("--> 8", "none", "nothing") is True
