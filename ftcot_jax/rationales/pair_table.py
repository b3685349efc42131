"""A task's pairs as selections see them: a few numbers each, in columns; the texts are read where they are wanted."""

from __future__ import annotations

import dataclasses
import functools
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from ftcot_jax.rationales.duplicates import equation_sequence, exact_key, first_with, repeats, text_key
from ftcot_jax.rationales.pairs import Pair
from ftcot_jax.tasks.overlap import Overlap, find_overlap
from ftcot_jax.tasks.scoring import Scoring
from ftcot_jax.tasks.task import TaskData

Texts = Callable[[Iterable[int]], Iterator[Pair]]
"""Reads the pairs at these places, in their order."""

_SURROGATES = "surrogatepass"  # half of a pair may stand in a teacher's text


@dataclasses.dataclass(frozen=True, eq=False)
class PairColumns:
    """What selections ask of N pairs, some thirty bytes each, whatever their texts.

    Attributes:
      sample_index: (N,) int64.
      completion_index: (N,) int64.
      correct: (N,) bool: the teacher's answer was right.
      answered: (N,) bool: there is an answer in the label.
      words: (N,) int32: length of the rationale.
      prediction_starts: (N,) int64: where in `prediction_bytes` the teacher's answer starts.
      prediction_lengths: (N,) int32: bytes of it; -1 where the teacher gave none.
      prediction_bytes: (total,) uint8: the answers in UTF-8, one after another.
    """

    sample_index: np.ndarray
    completion_index: np.ndarray
    correct: np.ndarray
    answered: np.ndarray
    words: np.ndarray
    prediction_starts: np.ndarray
    prediction_lengths: np.ndarray
    prediction_bytes: np.ndarray

    def __len__(self) -> int:
        return len(self.sample_index)

    @classmethod
    def of(cls, pairs: Iterable[Pair]) -> PairColumns:
        """The columns of pairs in their order, of which one at a time is held."""
        samples, completions, starts = array("q"), array("q"), array("q")
        correct, answered, words, lengths, letters = array("b"), array("b"), array("i"), array("i"), bytearray()
        for pair in pairs:
            samples.append(pair.sample_index)
            completions.append(pair.completion_index)
            correct.append(bool(pair.correct))
            answered.append(bool(pair.answer))
            words.append(len(pair.rationale.split()))
            prediction = b"" if pair.prediction is None else pair.prediction.encode(errors=_SURROGATES)
            starts.append(len(letters))
            lengths.append(-1 if pair.prediction is None else len(prediction))
            letters += prediction
        return cls(
            np.asarray(samples),
            np.asarray(completions),
            np.asarray(correct).view(bool),
            np.asarray(answered).view(bool),
            np.asarray(words),
            np.asarray(starts),
            np.asarray(lengths),
            np.frombuffer(letters, np.uint8),
        )

    def order(self) -> np.ndarray | None:
        """(N,) the places by question and completion; None where they are in that order, as they are written."""
        samples, completions = self.sample_index, self.completion_index
        later = (samples[1:] > samples[:-1]) | ((samples[1:] == samples[:-1]) & (completions[1:] >= completions[:-1]))
        return None if later.all() else np.lexsort((completions, samples))

    def at(self, places: np.ndarray) -> PairColumns:
        """The columns of the pairs at these places."""
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return PairColumns(**{name: of if name == "prediction_bytes" else of[places] for name, of in own.items()})

    def prediction(self, place: int) -> str | None:
        """The teacher's answer of one pair; None if there is none."""
        length, start = int(self.prediction_lengths[place]), int(self.prediction_starts[place])
        if length < 0:
            return None
        return self.prediction_bytes[start : start + length].tobytes().decode(errors=_SURROGATES)


@dataclasses.dataclass(frozen=True, eq=False)
class PairTable:
    """A task's pairs, ordered by question and completion.

    Attributes:
      data: the task.
      columns: what selections ask of the pairs.
      texts: reads the pairs themselves.
      scoring: whose rules tell which answers are the same.
    """

    data: TaskData
    columns: PairColumns
    texts: Texts
    scoring: Scoring = "paper"

    @classmethod
    def of(cls, data: TaskData, pairs: Sequence[Pair], scoring: Scoring = "paper") -> PairTable:
        """The table of pairs that are in memory, in order."""
        return cls(data, PairColumns.of(pairs), lambda places: (pairs[place] for place in places), scoring)

    def __len__(self) -> int:
        return len(self.columns)

    @functools.cached_property
    def overlap(self) -> Overlap:
        return find_overlap(self.data)

    def repeats(self, places: np.ndarray, near: bool) -> np.ndarray:
        """(K,) bool: which of the pairs at these places, in order, repeat an earlier one of them.

        Args:
          places: (K,) ints.
          near: also count equal text keys and, of a task of arithmetic, equal equations; else equal rationales only.
        """
        return repeats(*(numbers[places] for numbers in (self._near_keys if near else self._exact_keys)))

    @functools.cached_property
    def _exact_keys(self) -> tuple[np.ndarray, ...]:
        return self._numbered(lambda text: (exact_key(text),), 1)

    @functools.cached_property
    def _near_keys(self) -> tuple[np.ndarray, ...]:
        if not self.data.task.arithmetic:
            return self._numbered(lambda text: (text_key(text),), 1)
        return self._numbered(lambda text: (text_key(text), equation_sequence(text) or None), 2)

    def _numbered(self, keys_of: Callable[[str], tuple[object, ...]], kinds: int) -> tuple[np.ndarray, ...]:
        """The texts are read once for all selections, and the keys of one question at a time are held."""
        pairs = self.texts(range(len(self)))
        return first_with(((pair.sample_index, keys_of(pair.rationale)) for pair in pairs), kinds)
