"""What the teacher itself gets right: the figure beside its students'."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ftcot_jax.evaluation.intervals import Interval, over_seeds, wilson
from ftcot_jax.tasks.scoring import Scoring, score
from ftcot_jax.tasks.task import TaskData
from ftcot_jax.teacher.completion import Completion


@dataclasses.dataclass(frozen=True)
class TeacherScore:
    """The teacher on one part of the split.

    Attributes:
      part: "train" or "test".
      questions: that it has answered.
      completions: its texts for them.
      accuracy: share of its texts that are right.
      interval: of the accuracy; None where questions have different numbers of texts.
    """

    part: str
    questions: int
    completions: int
    accuracy: float
    interval: Interval | None


def score_teacher(
    data: TaskData, completions: Sequence[Completion], answer_prefix: str | None, scoring: Scoring
) -> list[TeacherScore]:
    """Scores the teacher's completions of test and training questions, of each part that has any."""
    found = []
    for part, indices in (("test", data.split.test), ("train", data.split.train)):
        wanted = set(indices)
        rights: dict[int, list[bool]] = {}
        for row in completions:
            if row.sample_index in wanted:
                gold = data.questions[row.sample_index].answer
                verdict = score(data.task, row.completion, gold, answer_prefix, scoring, row.finish_reason)
                rights.setdefault(row.sample_index, []).append(verdict.correct)
        if not rights:
            continue
        counts = [sum(texts) for texts in rights.values()]
        total = sum(len(texts) for texts in rights.values())
        samples = {len(texts) for texts in rights.values()}
        interval = None
        if len(samples) == 1:
            each = samples.pop()
            interval = wilson(sum(counts), total) if each == 1 else over_seeds([counts], each)
        found.append(TeacherScore(part, len(rights), total, sum(counts) / total, interval))
    return found
