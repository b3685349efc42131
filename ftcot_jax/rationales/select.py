"""Selection: D, the filter and the number of questions are choices over stored pairs, never a new purchase."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from ftcot_jax.errors import FtcotError
from ftcot_jax.rationales.duplicates import repeats
from ftcot_jax.rationales.pairs import Pair
from ftcot_jax.rationales.settings import SelectSettings
from ftcot_jax.tasks.overlap import Overlap, find_overlap
from ftcot_jax.tasks.scoring import Scoring, majority, same_answer
from ftcot_jax.tasks.task import TaskData


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


@dataclasses.dataclass(frozen=True, eq=False)
class PairTable:
    """A task's pairs, ordered by question and completion, with what selections ask of them again and again."""

    data: TaskData
    pairs: Sequence[Pair]
    scoring: Scoring = "paper"

    @functools.cached_property
    def sample_index(self) -> np.ndarray:
        """(N,) int64."""
        return np.array([pair.sample_index for pair in self.pairs], np.int64)

    @functools.cached_property
    def completion_index(self) -> np.ndarray:
        """(N,) int64."""
        return np.array([pair.completion_index for pair in self.pairs], np.int64)

    @functools.cached_property
    def correct(self) -> np.ndarray:
        """(N,) bool: the teacher's answer was right."""
        return np.array([pair.correct for pair in self.pairs], bool)

    @functools.cached_property
    def answered(self) -> np.ndarray:
        """(N,) bool: there is an answer in the label."""
        return np.array([bool(pair.answer) for pair in self.pairs], bool)

    @functools.cached_property
    def words(self) -> np.ndarray:
        """(N,) int64: length of the rationale."""
        return np.array([len(pair.rationale.split()) for pair in self.pairs], np.int64)

    @functools.cached_property
    def overlap(self) -> Overlap:
        return find_overlap(self.data)


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
    subset = question_subset(table.data.split.train, settings)
    state = _Sieve(len(table.pairs))
    state.keep("other_questions", np.isin(table.sample_index, subset))
    if settings.decontaminate != "no":
        seen = table.overlap.train_same_text if settings.decontaminate == "text" else table.overlap.train_same_template
        state.keep("contaminated", ~np.isin(table.sample_index, seen))
    state.keep("beyond_diversity", table.completion_index < (settings.diversity or np.iinfo(np.int64).max))
    if settings.filter == "answer":
        state.keep("wrong", table.correct)
    elif settings.filter == "majority":
        state.keep("wrong", _agrees(table, state.left, settings.majority_share))
    state.keep("no_answer", table.answered)
    length_ok = table.words >= (settings.min_words or 0)
    if settings.max_words is not None:
        length_ok &= table.words <= settings.max_words
    state.keep("out_of_length", length_ok)
    if settings.duplicates != "keep":
        state.keep("duplicates", ~_repeats(table, state.left, near=settings.duplicates == "near"))
    if fits is not None:
        state.keep("too_long", fits)
    if settings.per_question is not None:
        state.keep("beyond_per_question", _rank(table, state.left) < settings.per_question)
    kept = np.flatnonzero(state.left)
    chosen = _balanced(table.sample_index[kept], kept) if settings.balance else kept
    report = Yield(
        pairs=len(table.pairs),
        **state.dropped,
        kept=len(kept),
        repeated=len(chosen) - len(kept),
        questions=len(subset),
        covered=len(np.unique(table.sample_index[kept])),
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
    places = np.flatnonzero(left)
    cuts = np.flatnonzero(np.diff(table.sample_index[places])) + 1
    for group in np.split(places, cuts):
        predictions = [table.pairs[int(place)].prediction for place in group]
        winner, share = majority(table.data.task, predictions, table.scoring)
        if winner is not None and share >= least_share:
            for place, prediction in zip(group, predictions, strict=True):
                agrees[place] = prediction is not None and same_answer(
                    table.data.task, prediction, winner, table.scoring
                )
    return agrees


def _repeats(table: PairTable, left: np.ndarray, near: bool) -> np.ndarray:
    """(N,) bool: of the pairs that are left, those that repeat an earlier one of their question."""
    found = np.zeros(len(left), bool)
    places = np.flatnonzero(left)
    rationales = [table.pairs[place].rationale for place in places.tolist()]
    found[places] = repeats(table.sample_index[places].tolist(), rationales, near, table.data.task.arithmetic)
    return found


def _rank(table: PairTable, left: np.ndarray) -> np.ndarray:
    """(N,) how many of the pairs that are left, of the same question, come before each."""
    before = np.cumsum(left) - left
    starts = np.r_[True, np.diff(table.sample_index) != 0][: len(left)]
    return before - np.maximum.accumulate(np.where(starts, before, 0)) if len(left) else before


def _balanced(sample_index_K: np.ndarray, kept_K: np.ndarray) -> np.ndarray:
    """Every question's pairs, in turn, until it has as many as the question with most."""
    if not len(kept_K):
        return kept_K
    groups = np.split(kept_K, np.flatnonzero(np.diff(sample_index_K)) + 1)
    most = max(len(group) for group in groups)
    return np.concatenate([np.resize(group, most) for group in groups])
