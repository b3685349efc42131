"""Scoring a completion file, whoever wrote it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from ftcot_jax.errors import FtcotError, UsageError
from ftcot_jax.evaluation.intervals import wilson
from ftcot_jax.tasks.scoring import Scoring, score
from ftcot_jax.tasks.task import TaskData
from ftcot_jax.tasks.templates import get_template
from ftcot_jax.teacher.completion import StoredCompletions, checked


@dataclasses.dataclass(frozen=True)
class FileScore:
    """Shares of a file's completions, in [0, 1], and the 95% interval of the share that is correct.

    Attributes:
      answered: questions of the part that have a completion.
      questions: all of them.
    """

    task: str
    completions: int
    answered: int
    questions: int
    correct: float
    interval: tuple[float, float]
    contains_answer: float
    correct_format: float
    complete: float


def score_file(
    file: Path,
    load: Callable[[str], TaskData],
    scoring: Scoring,
    part: Literal["test", "train", "all"],
    task: str | None = None,
) -> FileScore:
    """Scores a file's completions of the test split, of the training split, or all.

    Args:
      file: in the authors' CompletionDataset form; its metadata name the template, and the task if `task` does not.
      load: brings a task by its key.
      scoring: whose rules.
      part: which questions' completions count.
      task: its key, or the YAML file that defines it.

    Raises:
      FtcotError: no task is named, the completions are not of it, or none is of that part.
    """
    content = StoredCompletions(file)
    key = task or content.metadata.get("dataset_key")
    if not isinstance(key, str):
        raise FtcotError(f"{file}: its metadata have no 'dataset_key'; say --task")
    try:
        data = load(key)
    except UsageError as error:
        raise UsageError(f"{file}: {error}; --task names another") from error
    prefix = get_template(content.metadata.get("prediction_template") or "zs_cot").answer_prefix
    wanted = set(data.questions) if part == "all" else set(getattr(data.split, part))
    rows = [row for row in checked(file, content, data.questions) if row.sample_index in wanted]
    if not rows:
        raise FtcotError(f"{file}: none of its {len(content)} completions is of the {part} questions")
    verdicts = [
        score(data.task, row.completion, data.questions[row.sample_index].answer, prefix, scoring, row.finish_reason)
        for row in rows
    ]
    correct = sum(verdict.correct for verdict in verdicts)
    interval = wilson(correct, len(rows))
    return FileScore(
        task=data.task.key,
        completions=len(rows),
        answered=len({row.sample_index for row in rows}),
        questions=len(wanted),
        correct=correct / len(rows),
        interval=(interval.low, interval.high),
        contains_answer=sum(verdict.contains_answer for verdict in verdicts) / len(rows),
        correct_format=sum(verdict.correct_format for verdict in verdicts) / len(rows),
        complete=sum(verdict.complete for verdict in verdicts) / len(rows),
    )
