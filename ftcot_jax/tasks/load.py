"""A task's questions and split, from settings."""

from __future__ import annotations

from ftcot_jax.errors import FtcotError, UsageError
from ftcot_jax.tasks import weekday
from ftcot_jax.tasks.fetch import fetch
from ftcot_jax.tasks.own_task import is_definition, read_own_task
from ftcot_jax.tasks.question import Question
from ftcot_jax.tasks.registry import TASKS, get_task
from ftcot_jax.tasks.settings import TaskSettings
from ftcot_jax.tasks.splits import carve_validation, default_split, read_split, template_split
from ftcot_jax.tasks.task import Split, Task, TaskData, Texts
from ftcot_jax.text_files import read_text


def load_task(settings: TaskSettings) -> TaskData:
    """Returns the task's questions, generated, read from its upstream files, or the user's own.

    Raises:
      UsageError: no such task or split, or more generated questions than there are.
      FtcotError: a file is missing, altered or malformed.
    """
    if is_definition(settings.key):
        data = read_own_task(settings.key)
    else:
        task = get_task(settings.key)
        data = _generated(task, settings) if task.read is None else _upstream(task, settings.mirror)
    split = _split(data, settings)
    if settings.validation is not None:
        split = carve_validation(split, data.questions, settings.validation, settings.validation_seed)
    return TaskData(data.task, data.questions, split, data.vocabulary, data.missing)


def _split(data: TaskData, settings: TaskSettings) -> Split:
    if settings.split == "default":
        return data.split
    if settings.split == "template":
        if data.task.template_of is None:
            having = ", ".join(task.key for task in TASKS.values() if task.template_of)
            raise UsageError(f"task.split: {data.task.key} has no template-wise split; {having} have one")
        return template_split(data.task.template_of, data.questions)
    if not settings.split.endswith(".json"):
        raise UsageError(f"task.split: '{settings.split}' is none of 'default', 'template' and a .json file")
    return read_split(settings.split, data.questions)


def _upstream(task: Task, mirror: str | None) -> TaskData:
    assert task.read is not None
    questions: dict[int, Question] = {}
    start, missing = 0, None
    for source in task.sources:
        try:
            file = fetch(source, mirror)
        except FtcotError as error:
            if source.rows is None:
                raise
            start, missing = start + source.rows, f"questions {start} to {start + source.rows - 1}: {error}"
            continue
        texts: Texts = task.read(read_text(file), str(file))
        if source.rows is not None and len(texts) != source.rows:
            raise FtcotError(f"{file}: {len(texts)} questions, not {source.rows}; delete it to fetch it again")
        questions |= {start + place: Question(start + place, *text) for place, text in enumerate(texts)}
        start += len(texts)
    if start != task.size:
        raise FtcotError(f"{task.sources[0].path}: {start} questions, not the {task.size} of {task.key}")
    return TaskData(task, questions, default_split(task, start), missing=missing)


def _generated(task: Task, settings: TaskSettings) -> TaskData:
    train, test = settings.train_questions, settings.test_questions
    try:
        questions = weekday.questions(settings.seed or 0, train, test)
    except ValueError as error:
        raise UsageError(f"task: {error}; lower task.train_questions or task.test_questions") from error
    split = Split(tuple(range(train)), tuple(range(train, train + test)))
    return TaskData(task, {question.sample_index: question for question in questions}, split, weekday.vocabulary())
