"""Several texts a question: pass@k and majority vote."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ftcot_jax.tasks.scoring import Scoring, Verdict, majority, same_answer
from ftcot_jax.tasks.task import Task


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Chance that one of `k` texts is right, drawn without replacement from `samples` of which `correct` are.

    The unbiased estimator of Chen et al. 2021 (arXiv 2107.03374, equation 1).

    Raises:
      ValueError: `k` is not in 1..samples, or `correct` not in 0..samples.
    """
    if not 1 <= k <= samples or not 0 <= correct <= samples:
        raise ValueError(f"pass@{k} of {correct} right among {samples} is not defined")
    return 1.0 - math.comb(samples - correct, k) / math.comb(samples, k)


def mean_pass_at_k(samples: int, rights: Sequence[int]) -> dict[int, float]:
    """pass@k over questions, for k = 1, 2, 4, ... and `samples` itself.

    Args:
      samples: texts a question.
      rights: how many of them are right, for each question.
    """
    degrees = sorted({samples, *(2**power for power in range(samples.bit_length()))})
    return {k: sum(pass_at_k(samples, right, k) for right in rights) / len(rights) for k in degrees}


def majority_is_right(task: Task, verdicts: Sequence[Verdict], gold: str, scoring: Scoring) -> bool | None:
    """Whether the answer most texts of a question give is right; None where no answer has a majority of its own."""
    chosen, _ = majority(task, [verdict.prediction for verdict in verdicts], scoring)
    return None if chosen is None else same_answer(task, chosen, gold, scoring)
