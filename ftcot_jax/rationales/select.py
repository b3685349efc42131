"""Selection: D, the filter and the number of questions are choices over stored pairs, never a new purchase."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ftcot_jax.errors import FtcotError
from ftcot_jax.rationales.settings import SelectSettings


@dataclasses.dataclass(frozen=True)
class Yield:
    """Where a selection's pairs went. The counts of pairs add up to `pairs`.

    Attributes:
      pairs: all pairs of training questions.
      other_questions: of questions outside the subset.
      beyond_diversity: after a question's first D.
      wrong: whose answer is wrong.
      beyond_per_question: after a question's first so many kept.
      kept: what the student is trained on.
      questions: training questions in the subset.
      covered: those with at least one pair kept.
    """

    pairs: int
    other_questions: int
    beyond_diversity: int
    wrong: int
    beyond_per_question: int
    kept: int
    questions: int
    covered: int


@dataclasses.dataclass(frozen=True)
class Selection:
    """`chosen` (K,) int64 are places in the arrays selected from, in order."""

    chosen: np.ndarray
    report: Yield


def question_subset(train: Sequence[int], settings: SelectSettings) -> np.ndarray:
    """The training questions used: all, or the paper's subset (a seed-0 permutation's first n, sorted)."""
    ordered = np.array(sorted(train), np.int64)
    if settings.max_questions is None:
        return ordered
    order = np.random.RandomState(0).permutation(len(ordered))
    return np.sort(ordered[order[: settings.max_questions]])


def select(
    sample_index_N: np.ndarray,
    completion_index_N: np.ndarray,
    correct_N: np.ndarray,
    train: Sequence[int],
    settings: SelectSettings,
) -> Selection:
    """Chooses pairs: the subset's questions, their first D completions, then the filter, then so many a question.

    Args:
      sample_index_N: (N,) question of each pair.
      completion_index_N: (N,) which completion of its question.
      correct_N: (N,) bool, whether its answer is right.
      train: sample indices of the training split.
      settings: the selection.

    Raises:
      FtcotError: nothing is left; the counts say why.
    """
    subset = question_subset(train, settings)
    wanted = np.isin(sample_index_N, subset)
    early = completion_index_N < (settings.diversity or np.iinfo(np.int64).max)
    right = correct_N | (not settings.only_correct)
    survivors = np.flatnonzero(wanted & early & right)
    chosen = survivors[
        _rank_in_question(sample_index_N[survivors], completion_index_N[survivors])
        < (settings.per_question or len(correct_N) + 1)
    ]
    report = Yield(
        pairs=len(sample_index_N),
        other_questions=int((~wanted).sum()),
        beyond_diversity=int((wanted & ~early).sum()),
        wrong=int((wanted & early & ~right).sum()),
        beyond_per_question=len(survivors) - len(chosen),
        kept=len(chosen),
        questions=len(subset),
        covered=len(np.unique(sample_index_N[chosen])),
    )
    if not len(chosen):
        asked = int((wanted & early).sum())
        raise FtcotError(
            f"0 of {asked} rationales are right, for {len(subset)} training questions (stored: {report.pairs}, of "
            f"other questions: {report.other_questions}, beyond the first D: {report.beyond_diversity}, wrong: "
            f"{report.wrong}); check that the completions belong to this task's training split, or set "
            "select.only_correct=false"
        )
    return Selection(chosen, report)


def _rank_in_question(sample_index_K: np.ndarray, completion_index_K: np.ndarray) -> np.ndarray:
    """(K,) how many kept pairs of the same question come before each."""
    order = np.lexsort((completion_index_K, sample_index_K))
    ordered = sample_index_K[order]
    starts = np.r_[True, ordered[1:] != ordered[:-1]] if len(ordered) else np.zeros(0, bool)
    places = np.arange(len(ordered))
    rank = np.empty(len(ordered), np.int64)
    rank[order] = places - np.maximum.accumulate(np.where(starts, places, 0)) if len(ordered) else places
    return rank
