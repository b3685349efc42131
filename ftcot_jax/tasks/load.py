"""A task's questions and split, from settings."""

from __future__ import annotations

import numpy as np

from ftcot_jax.errors import FtcotError, UsageError
from ftcot_jax.tasks import weekday
from ftcot_jax.tasks.fetch import fetch
from ftcot_jax.tasks.question import Question
from ftcot_jax.tasks.registry import get_task
from ftcot_jax.tasks.settings import TaskSettings
from ftcot_jax.tasks.task import Split, Task, TaskData

TRAIN_SHARE = 0.7


def load_task(settings: TaskSettings) -> TaskData:
    """Returns the task's questions, generated or read from its upstream files.

    Raises:
      UsageError: no such task, or more generated questions than there are.
      FtcotError: an upstream file is missing, altered or malformed.
    """
    task = get_task(settings.key)
    if task.read is None:
        return _generated(task, settings)
    texts = [
        pair for source in task.sources for pair in task.read(fetch(source, settings.mirror).read_text(), source.path)
    ]
    if len(texts) != task.size:
        raise FtcotError(f"{task.sources[0].path}: {len(texts)} questions, not the {task.size} of {task.key}")
    questions = {index: Question(index, question, answer) for index, (question, answer) in enumerate(texts)}
    return TaskData(task, questions, default_split(task, len(texts)))


def default_split(task: Task, count: int) -> Split:
    """The paper's split: the official one, or 70% by a seed-0 permutation, both halves sorted."""
    if task.train_size is not None:
        return Split(tuple(range(task.train_size)), tuple(range(task.train_size, count)))
    order = np.random.RandomState(0).permutation(count)
    train = round(TRAIN_SHARE * count)
    return Split(tuple(sorted(order[:train].tolist())), tuple(sorted(order[train:].tolist())))


def _generated(task: Task, settings: TaskSettings) -> TaskData:
    train, test = settings.train_questions, settings.test_questions
    try:
        questions = weekday.questions(settings.seed or 0, train, test)
    except ValueError as error:
        raise UsageError(f"task: {error}; lower task.train_questions or task.test_questions") from error
    split = Split(tuple(range(train)), tuple(range(train, train + test)))
    return TaskData(task, {question.sample_index: question for question in questions}, split, weekday.vocabulary())
