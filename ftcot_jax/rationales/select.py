"""Selection: D, the filter and the number of questions are choices over stored pairs, never a new purchase."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from ftcot_jax.errors import FtcotError
from ftcot_jax.rationales.pair_table import PairTable
from ftcot_jax.rationales.settings import SelectSettings
from ftcot_jax.tasks.scoring import majority, same_answer


@dataclasses.dataclass(frozen=True)
class Yield:
    """Where a selection's pairs went. The counts of pairs, `repeated` aside, add up to `pairs`.

    Attributes:
      pairs: all pairs of training questions.
      other_questions: of questions outside the subset.
      contaminated: of questions the test set has too.
      beyond_diversity: after a question's first D.
      wrong: whose answer is wrong; under a majority, whose answer is not the majority's or has too few votes.
      no_answer: with no answer to put in the label.
      out_of_length: too short or too long.
      duplicates: that repeat an earlier one of their question.
      beyond_per_question: after a question's first so many kept.
      too_long: more tokens than a record may have.
      kept: what the student is trained on.
      repeated: kept ones shown again, for balance.
      questions: training questions in the subset.
      covered: those with at least one pair kept.
    """

    pairs: int
    other_questions: int
    contaminated: int
    beyond_diversity: int
    wrong: int
    no_answer: int
    out_of_length: int
    duplicates: int
    beyond_per_question: int
    too_long: int
    kept: int
    repeated: int
    questions: int
    covered: int


@dataclasses.dataclass(frozen=True)
class Selection:
    """`chosen` (K,) int64 are places in what was selected from, in order; balance repeats some."""

    chosen: np.ndarray
    report: Yield


def question_subset(train: Sequence[int], settings: SelectSettings) -> np.ndarray:
    """The training questions used: all, or a seeded permutation's first n, sorted (seed 0 is the paper's)."""
    ordered = np.array(sorted(train), np.int64)
    if settings.max_questions is None and settings.question_share is None:
        return ordered
    count = settings.max_questions or max(1, round((settings.question_share or 1) * len(ordered)))
    order = np.random.RandomState(settings.subset_seed).permutation(len(ordered))
    return np.sort(ordered[order[:count]])


def select(table: PairTable, settings: SelectSettings, fits: np.ndarray | None = None) -> Selection:
    """Chooses pairs, as `sieve` does.

    Raises:
      FtcotError: nothing is left; the counts say why.
    """
    selection = sieve(table, settings, fits)
    if not len(selection.chosen):
        raise FtcotError(_nothing_left(selection.report))
    return selection


def sieve(table: PairTable, settings: SelectSettings, fits: np.ndarray | None = None) -> Selection:
    """Chooses pairs, in this order: questions, first D, filter, length, duplicates, so many a question, balance.

    Args:
      table: the pairs.
      settings: the selection.
      fits: (N,) bool, whether a pair became a record; default: all did.
    """
    subset, columns = question_subset(table.data.split.train, settings), table.columns
    state = _Sieve(len(table))
    state.keep("other_questions", np.isin(columns.sample_index, subset))
    if settings.decontaminate != "no":
        seen = table.overlap.train_same_text if settings.decontaminate == "text" else table.overlap.train_same_template
        state.keep("contaminated", ~np.isin(columns.sample_index, seen))
    state.keep("beyond_diversity", columns.completion_index < (settings.diversity or np.iinfo(np.int64).max))
    if settings.filter == "answer":
        state.keep("wrong", columns.correct)
    elif settings.filter == "majority":
        state.keep("wrong", _agrees(table, state.left, settings.majority_share))
    state.keep("no_answer", columns.answered)
    length_ok = columns.words >= (settings.min_words or 0)
    if settings.max_words is not None:
        length_ok &= columns.words <= settings.max_words
    state.keep("out_of_length", length_ok)
    if settings.duplicates != "keep":
        state.keep("duplicates", ~_repeats(table, state.left, settings.duplicates == "near"))
    if fits is not None:
        state.keep("too_long", fits)
    if settings.per_question is not None:
        state.keep("beyond_per_question", _rank(columns.sample_index, state.left) < settings.per_question)
    kept = np.flatnonzero(state.left)
    chosen = _balanced(columns.sample_index[kept], kept) if settings.balance else kept
    report = Yield(
        pairs=len(table),
        **state.dropped,
        kept=len(kept),
        repeated=len(chosen) - len(kept),
        questions=len(subset),
        covered=len(np.unique(columns.sample_index[kept])),
    )
    return Selection(chosen, report)


_ADVICE = {
    "other_questions": "raise select.max_questions",
    "contaminated": "set select.decontaminate=no",
    "beyond_diversity": "raise select.diversity",
    "wrong": "check that the completions belong to this task, or choose another select.filter",
    "no_answer": "the teacher's texts hold no answer: set scoring=robust, or give gold answers",
    "out_of_length": "widen select.min_words and select.max_words",
    "too_long": "raise records.max_length",
}


def _nothing_left(report: Yield) -> str:
    """Why a selection is empty, and what to do about it."""
    if not report.pairs:
        return (
            f"0 of 0 rationales are right, for {report.questions} training questions: no completion is of the training "
            "split; check that they belong to this task and split"
        )
    taken = {name: getattr(report, name) for name in _Sieve.REASONS if getattr(report, name)}
    outside = ("other_questions", "contaminated", "beyond_diversity")
    asked = report.pairs - sum(taken.get(name, 0) for name in outside)
    first = max((name for name in taken if not asked or name not in outside), key=taken.__getitem__)
    counts = ", ".join(f"{name.replace('_', ' ')}: {count}" for name, count in taken.items())
    left = "right" if first == "wrong" else "left"
    return (
        f"0 of {asked} rationales are {left}, for {report.questions} training questions (stored: {report.pairs}, "
        f"{counts}); {_ADVICE.get(first, 'loosen the selection')}"
    )


class _Sieve:
    """Which pairs are left, and how many each reason took."""

    REASONS = (
        "other_questions",
        "contaminated",
        "beyond_diversity",
        "wrong",
        "no_answer",
        "out_of_length",
        "duplicates",
        "beyond_per_question",
        "too_long",
    )

    def __init__(self, count: int) -> None:
        self.left = np.ones(count, bool)
        self.dropped = dict.fromkeys(self.REASONS, 0)

    def keep(self, reason: str, passes: np.ndarray) -> None:
        self.dropped[reason] += int((self.left & ~passes).sum())
        self.left &= passes


def _agrees(table: PairTable, left: np.ndarray, least_share: float) -> np.ndarray:
    """(N,) bool: the pair's answer is its question's majority, with enough votes among the pairs that are left."""
    agrees = np.zeros(len(left), bool)
    for group in _by_question(table.columns.sample_index, np.flatnonzero(left)):
        predictions = [table.columns.prediction(place) for place in group.tolist()]
        winner, share = majority(table.data.task, predictions, table.scoring)
        if winner is not None and share >= least_share:
            for place, prediction in zip(group, predictions, strict=True):
                agrees[place] = prediction is not None and same_answer(
                    table.data.task, prediction, winner, table.scoring
                )
    return agrees


def _repeats(table: PairTable, left: np.ndarray, near: bool) -> np.ndarray:
    """(N,) bool: of the pairs that are left, those that repeat an earlier one of their question."""
    found, places = np.zeros(len(left), bool), np.flatnonzero(left)
    found[places] = table.repeats(places, near)
    return found


def _rank(sample_index: np.ndarray, left: np.ndarray) -> np.ndarray:
    """(N,) how many of the pairs that are left, of the same question, come before each."""
    before = np.cumsum(left) - left
    starts = np.r_[True, np.diff(sample_index) != 0][: len(left)]
    return before - np.maximum.accumulate(np.where(starts, before, 0)) if len(left) else before


def _by_question(sample_index: np.ndarray, places_K: np.ndarray) -> Iterator[np.ndarray]:
    """The places of each question's pairs."""
    ends = np.flatnonzero(np.diff(sample_index[places_K], append=-1)) + 1  # no question is -1
    start = 0
    for end in ends.tolist():
        yield places_K[start:end]
        start = end


def _balanced(sample_index_K: np.ndarray, kept_K: np.ndarray) -> np.ndarray:
    """Every question's pairs, in turn, until it has as many as the question with most."""
    if not len(kept_K):
        return kept_K
    _, starts_Q, counts_Q = np.unique(sample_index_K, return_index=True, return_counts=True)
    turns = np.arange(counts_Q.max())
    return kept_K[(starts_Q[:, None] + turns % counts_Q[:, None]).ravel()]
