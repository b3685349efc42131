"""A user's own task: a file of questions and a few lines of YAML that say what its answers are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from ftcot_jax.errors import FtcotError, nearest
from ftcot_jax.tasks.dataset_file import read_dataset
from ftcot_jax.tasks.question import Question
from ftcot_jax.tasks.registry import TASKS
from ftcot_jax.tasks.scoring import check_gold
from ftcot_jax.tasks.splits import default_split
from ftcot_jax.tasks.task import AnswerType, Split, Task, TaskData
from ftcot_jax.text_files import parse_json, read_text, read_yaml


class OwnTask(BaseModel):
    """The YAML file: what a user says of their task."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str = Field(pattern=r"^[a-z0-9][a-z0-9_]*$", description="Its name in reports and file names.")
    file: str = Field(description="JSON lines, or a dataset in the authors' JSON; beside the YAML file.")
    answer_type: AnswerType = Field(description="integer, float, choice, yes_no, letters, word or text.")
    choices: tuple[str, ...] = Field((), description="The letters of type choice, or the words of type word.")
    licence: str = Field("not stated", description="Of the questions.")
    citation: str = Field("not stated", description="Where they come from.")

    @pydantic.field_validator("choices", mode="before")
    @classmethod
    def _choices_are_text(cls, given: Any) -> Any:
        if isinstance(given, list) and any(isinstance(choice, bool) for choice in given):
            raise ValueError("YAML reads yes, no, on and off as true and false: quote them")
        return given

    @pydantic.model_validator(mode="after")
    def _choices_fit(self) -> OwnTask:
        if (self.answer_type in ("choice", "word")) != bool(self.choices):
            raise ValueError("answer types choice and word need choices, and no other type has any")
        if self.choices and len(set(self.choices)) < max(2, len(self.choices)):
            raise ValueError("choices are two or more, all different")
        if self.answer_type == "choice" and not all(re.fullmatch("[A-Z]", choice) for choice in self.choices):
            raise ValueError("the choices of answer type choice are capital letters, such as [A, B, C]")
        if self.answer_type == "word" and not all(re.fullmatch(r"[^\W_]+", choice) for choice in self.choices):
            raise ValueError("the choices of answer type word are single words of letters and digits")
        if self.key in TASKS:
            raise ValueError(f"key: there is a task '{self.key}' already; choose another name")
        return self


def is_definition(key: str) -> bool:
    """Whether a task's key is the path of a YAML file."""
    return key.endswith((".yaml", ".yml"))


def read_own_task(path: str) -> TaskData:
    """Reads a task a user defined.

    A row of the JSON lines file has ``question`` and ``answer``, and perhaps ``split``: train, test or
    validation; where no row has one, the paper's random 70% train. Without gold answers, select by majority.

    Raises:
      UsageError: a file is not there.
      FtcotError: the definition or a row is not as it should be.
    """
    definition = _definition(path)
    file = Path(path).parent / definition.file
    task = Task(
        key=definition.key,
        answer_type=definition.answer_type,
        arithmetic=definition.answer_type in ("integer", "float"),
        licence=definition.licence,
        citation=definition.citation,
        choices=definition.choices,
    )
    if file.suffix == ".json":
        questions, parts = read_dataset(file).questions, dict[int, str]()
        for question in questions.values():
            _check(task, question, f"{file}, question {question.sample_index}")
    else:
        questions, parts = _rows(task, file)
    split = _stated_split(file, questions, parts) if parts else default_split(task, len(questions))
    if not parts and sorted(questions) != list(range(len(questions))):
        raise FtcotError(f"{file}: sample indices must run from 0 to {len(questions) - 1} for the default split")
    return TaskData(task, questions, split)


def _definition(path: str) -> OwnTask:
    content = read_yaml(path, "task.key")
    try:
        return OwnTask.model_validate(content)
    except pydantic.ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            raise FtcotError(f"{path}: unknown key '{key}'{nearest(key, OwnTask.model_fields)}") from error
        if problem["type"] == "missing":
            raise FtcotError(f"{path}: '{key}' is missing") from error
        raise FtcotError(f"{path}: {key or 'definition'}: {problem['msg'].removeprefix('Value error, ')}") from error


def _rows(task: Task, file: Path) -> tuple[dict[int, Question], dict[int, str]]:
    """Questions by their line's number among the questions, and the split part of those that state one."""
    questions: dict[int, Question] = {}
    parts: dict[int, str] = {}
    for number, line in enumerate(read_text(file).split("\n"), 1):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        row = parse_json(line, str(file), number)
        question = _question(task, row, len(questions), where)
        _check(task, question, where)
        if question.sample_index in questions:
            raise FtcotError(f"{where}: sample_index {question.sample_index} is there twice")
        if "split" in row:
            if row["split"] not in ("train", "test", "validation"):
                raise FtcotError(f"{where}: split is {row['split']!r}; it can be train, test or validation")
            parts[question.sample_index] = row["split"]
        questions[question.sample_index] = question
    if not questions:
        raise FtcotError(f"{file}: no questions in it")
    return questions, parts


def _check(task: Task, question: Question, where: str) -> None:
    wrong = check_gold(task, question.answer) if question.answer else None
    if wrong:
        raise FtcotError(f"{where}: {wrong}")


def _question(task: Task, row: Any, place: int, where: str) -> Question:
    if not isinstance(row, dict) or not isinstance(row.get("question"), str) or not row["question"].strip():
        raise FtcotError(f"{where}: a row is an object with a text 'question' and an 'answer'")
    answer, index = row.get("answer", ""), row.get("sample_index", place)
    if isinstance(answer, bool) or not isinstance(answer, str | int | float):
        raise FtcotError(f"{where}: 'answer' is {answer!r}; it must be text or a number")
    if isinstance(index, bool) or not isinstance(index, int) or index < 0:
        raise FtcotError(f"{where}: sample_index is {index!r}; it must be a whole number")
    if task.answer_type == "integer" and isinstance(answer, float) and answer.is_integer():
        answer = int(answer)  # some writers have no other numbers
    unknown = sorted(row.keys() - {"question", "answer", "sample_index", "split"})
    if unknown:
        raise FtcotError(f"{where}: unknown '{unknown[0]}'; a row has question, answer, sample_index and split")
    return Question(index, row["question"], str(answer).strip())


def _stated_split(file: Path, questions: dict[int, Question], parts: dict[int, str]) -> Split:
    without = sorted(questions.keys() - parts.keys())
    if without:
        raise FtcotError(f"{file}: question {without[0]} has no 'split', but others have")
    members = {part: tuple(sorted(index for index in parts if parts[index] == part)) for part in set(parts.values())}
    return Split(members.get("train", ()), members.get("test", ()), members.get("validation", ()))
