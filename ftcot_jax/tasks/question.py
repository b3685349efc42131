"""A question with a known answer, as the authors' dataset files hold it."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """One sample of a benchmark; `sample_index` is its place in the authors' dataset file."""

    sample_index: int
    question: str
    answer: str
