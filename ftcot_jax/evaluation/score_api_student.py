"""Scoring a student that lives at an API, by the same rules as any other."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ftcot_jax.errors import UsageError
from ftcot_jax.evaluation.asking import Asking
from ftcot_jax.evaluation.score_student import Scores, as_completion, reasoned, score_rows
from ftcot_jax.evaluation.settings import EvaluateSettings
from ftcot_jax.students.api_answers import ask_student
from ftcot_jax.students.api_settings import ApiStudentSettings
from ftcot_jax.students.api_student import open_account
from ftcot_jax.tasks.question import Question
from ftcot_jax.tasks.task import Task
from ftcot_jax.teacher.api_state import ApiState
from ftcot_jax.teacher.completion import Completion
from ftcot_jax.teacher.ledger import Sample
from ftcot_jax.teacher.wire import split_thinking

REFUSED = "refused"


def score_api_student(
    settings: ApiStudentSettings,
    model: str,
    task: Task,
    questions: Sequence[Question],
    ask: Asking,
    folder: Path,
    evaluate: EvaluateSettings,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Scores:
    """Asks a model at an API the questions and scores its answers: a student tuned there, or any model as it is.

    At temperature 0 as in the paper, unless `evaluate.sampling` says otherwise; a second step always is. A question
    the server refuses counts as wrong and is counted. Answers are kept in `folder` and never bought twice.

    Args:
      settings: the API.
      model: `TunedStudent.model`, or any other the API serves.
      task: decides how answers are compared.
      questions: what to ask; `questions_of(data, "test", limit)`, say.
      ask: the template in its form for API or chat models.
      folder: state of this student.
      evaluate: most tokens, and how answers are drawn.
      on_progress: called with (answers there, questions) of each step.

    Raises:
      UsageError: the sampling is none an API takes.
      FtcotError: the API fails, or refuses the key or every question.
    """
    drawn = evaluate.sampling
    if drawn is not None and drawn.top_k is not None:
        raise UsageError("evaluate.sampling.top_k: an API takes temperature and top_p; leave top_k out")
    # Servers agree on this name for chat, and reasoning models refuse the older one.
    limit = "max_completion_tokens" if settings.form == "chat" else "max_tokens"
    greedy = {"temperature": 0.0, limit: evaluate.most_new_tokens(ask.template) or settings.max_tokens}
    refused, perhaps_paid = 0, 0
    prompts = [ask.prompt_of(question.question) for question in questions]
    rows: list[list[Completion]] = [[] for _ in questions]
    with open_account(settings) as account, ApiState(folder) as state:

        def buy(prompts: Sequence[str], sampling: dict[str, Any]) -> list[Sample | None]:
            nonlocal refused, perhaps_paid
            chat, abreast = settings.form == "chat", settings.concurrency
            answers = ask_student(account, state, model, sampling, chat, prompts, abreast, on_progress)
            refused, perhaps_paid = refused + len(answers.refused), answers.perhaps_paid
            return answers.samples

        for number in range(evaluate.samples):
            sampling: dict[str, Any] = dict(greedy)
            if drawn is not None:
                sampling |= {"temperature": drawn.temperature, "seed": drawn.seed + number}
                sampling |= {} if drawn.top_p is None else {"top_p": drawn.top_p}
            if ask.template.stop:
                sampling["stop"] = list(ask.template.stop)
            written = [
                _row(question, number, prompt, sample)
                for question, prompt, sample in zip(questions, prompts, buy(prompts, sampling), strict=True)
            ]
            if ask.second_of is not None:
                written = _answered(written, ask.second_of, lambda seconds: buy(seconds, greedy))
            for place, row in enumerate(written):
                rows[place].append(row)
    scores = score_rows(task, [row for of_question in rows for row in of_question], ask)
    return dataclasses.replace(scores, summary=scores.summary | {"refused": refused, "perhaps_paid": perhaps_paid})


def _row(question: Question, number: int, prompt: str, sample: Sample | None) -> Completion:
    if sample is None:
        return as_completion(question, number, prompt, "", REFUSED)
    thought, text = split_thinking(sample)
    return as_completion(question, number, prompt, text, sample.finish_reason, thought)


def _answered(
    rows: list[Completion],
    second_of: Callable[[str, str, str], str],
    buy: Callable[[Sequence[str]], list[Sample | None]],
) -> list[Completion]:
    """The rows with the answers of the second step, where one is needed: a reasoning model has answered already."""
    asked = {}
    for place, row in enumerate(rows):
        answered = row.reasoning_completion is not None and row.completion.strip()
        if row.finish_reason != REFUSED and not answered:
            text = row.completion if row.reasoning_completion is None else row.reasoning_completion
            prompt = second_of(row.question, row.prompt, text)
            asked[place] = reasoned(dataclasses.replace(row, completion=text), prompt)
    if asked:
        for (place, row), sample in zip(asked.items(), buy([row.prompt for row in asked.values()]), strict=True):
            text, reason = ("", REFUSED) if sample is None else (split_thinking(sample)[1], sample.finish_reason)
            rows[place] = dataclasses.replace(row, completion=text, finish_reason=reason)
    return rows
