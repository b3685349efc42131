"""Scoring a student that lives at an API, by the same rules as any other."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ftcot_jax.evaluation.score_student import Asking, Scores, score_texts
from ftcot_jax.students.api_answers import ask_student
from ftcot_jax.students.api_settings import ApiStudentSettings
from ftcot_jax.students.api_student import open_account
from ftcot_jax.tasks.question import Question
from ftcot_jax.tasks.scoring import Scoring
from ftcot_jax.tasks.task import Task
from ftcot_jax.tasks.templates import OwnTemplate, get_template
from ftcot_jax.teacher.api_state import ApiState


def score_api_student(
    settings: ApiStudentSettings,
    model: str,
    task: Task,
    questions: Sequence[Question],
    template: str | OwnTemplate,
    folder: Path,
    scoring: Scoring = "paper",
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Scores:
    """Asks a model at an API the questions, at temperature 0 as in the paper, and scores its answers.

    A question the server refuses counts as wrong and is counted. Answers are kept in `folder` and never bought twice.

    Args:
      settings: the API.
      model: `TunedStudent.model`, or any other the API serves.
      task: decides how answers are compared.
      questions: what to ask; `questions_of(data, "test", limit)`, say.
      template: the recipe's; its variant for API or chat models forms the prompts.
      folder: state of this student.
      scoring: whose rules.
      on_progress: called with (answers there, questions).

    Raises:
      FtcotError: the API fails, or refuses the key or every question.
    """
    asked = get_template(template, "chat" if settings.form == "chat" else "api")
    asking = Asking(asked, asked.prompt, scoring)
    prompts = [asked.prompt(question.question) for question in questions]
    chat = settings.form == "chat"
    # Servers agree on this name for chat, and reasoning models refuse the older one.
    limit = "max_completion_tokens" if chat else "max_tokens"
    sampling: dict[str, Any] = {"temperature": 0.0, limit: settings.max_tokens}
    if asked.stop:
        sampling["stop"] = list(asked.stop)
    with open_account(settings) as account, ApiState(folder) as state:
        answers = ask_student(account, state, model, sampling, chat, prompts, settings.concurrency, on_progress)
    texts = ["" if sample is None else sample.text for sample in answers.samples]
    reasons = ["refused" if sample is None else sample.finish_reason for sample in answers.samples]
    scores = score_texts(task, questions, asking, prompts, texts, reasons)
    counts = {"refused": len(answers.refused), "perhaps_paid": answers.perhaps_paid}
    return dataclasses.replace(scores, summary=scores.summary | counts)
