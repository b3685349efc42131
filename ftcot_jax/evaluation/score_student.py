"""Asking a student the test questions and scoring what it writes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal

from ftcot_jax.errors import FtcotError
from ftcot_jax.evaluation.intervals import wilson
from ftcot_jax.evaluation.settings import EvaluateSettings
from ftcot_jax.generation.generate import generate
from ftcot_jax.students.student import Student
from ftcot_jax.tasks.question import Question
from ftcot_jax.tasks.scoring import Scoring, score
from ftcot_jax.tasks.task import Task, TaskData
from ftcot_jax.tasks.templates import Template
from ftcot_jax.teacher.completion import Completion

Part = Literal["test", "validation"]


@dataclasses.dataclass(frozen=True)
class Asking:
    """How questions are put and answers read.

    Attributes:
      template: with its exemplars filled in.
      prompt_of: the prompt it makes of a question.
      scoring: whose rules.
      shown: sample indices of questions that the prompt shows solved; they are not asked.
    """

    template: Template
    prompt_of: Callable[[str], str]
    scoring: Scoring
    shown: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Scores:
    """What a student achieved.

    Attributes:
      completions: its texts, in the authors' row form.
      outcomes: for each question, whether the answer was right.
      summary: counts, accuracy and its 95% interval, as JSON values.
    """

    completions: list[Completion]
    outcomes: list[bool]
    summary: dict[str, Any]


def questions_of(data: TaskData, part: Part, limit: int | None, shown: Sequence[int] = ()) -> list[Question]:
    """A part of the split without the questions that are shown, or `limit` of it evenly spaced.

    Raises:
      FtcotError: the part is empty, or one of its questions has no gold answer.
    """
    whole = data.split.test if part == "test" else data.split.validation
    indices = [index for index in whole if index not in shown]
    if not indices:
        raise FtcotError(f"{data.task.key}: the {part} split is empty; there is nothing to evaluate on")
    count = len(indices) if limit is None else min(limit, len(indices))
    questions = data.of([indices[place * len(indices) // count] for place in range(count)])
    unanswered = [question.sample_index for question in questions if not question.answer]
    if unanswered:
        raise FtcotError(
            f"{data.task.key}: question {unanswered[0]} of the {part} split has no answer to score against"
        )
    return questions


def score_student(
    student: Student,
    params: Any,
    task: Task,
    questions: Sequence[Question],
    ask: Asking,
    settings: EvaluateSettings,
    on_progress: Callable[[int, int], None] | None = None,
) -> Scores:
    """Asks greedily and scores. A prompt beyond the limit counts as wrong and is counted."""
    prompts = [ask.prompt_of(question.question) for question in questions]
    written = generate(
        student,
        params,
        student.encode_prompts(prompts),
        max_length=settings.max_length,
        batch_rows=settings.batch_rows,
        stop=ask.template.stop,
        on_progress=on_progress,
    )
    reasons = [row.finish_reason for row in written]
    scores = score_texts(task, questions, ask, prompts, student.decode([row.tokens for row in written]), reasons)
    counts = {
        "prompt_too_long": reasons.count("prompt_too_long"),
        "tokens_written": sum(len(row.tokens) for row in written),
    }
    return dataclasses.replace(scores, summary=scores.summary | counts)


def score_texts(
    task: Task,
    questions: Sequence[Question],
    ask: Asking,
    prompts: Sequence[str],
    texts: Sequence[str],
    reasons: Sequence[str | None],
) -> Scores:
    """Scores what any student wrote; all sequences have one entry a question."""
    verdicts = [
        score(task, text, question.answer, ask.template.answer_prefix, ask.scoring, reason)
        for text, question, reason in zip(texts, questions, reasons, strict=True)
    ]
    outcomes = [verdict.correct for verdict in verdicts]
    interval = wilson(sum(outcomes), len(outcomes))
    summary = {
        "questions": len(outcomes),
        "correct": sum(outcomes),
        "accuracy": sum(outcomes) / len(outcomes),
        "interval_95": [interval.low, interval.high],
        "contains_answer": sum(verdict.contains_answer for verdict in verdicts),
        "correct_format": sum(verdict.correct_format for verdict in verdicts),
        "complete": sum(verdict.complete for verdict in verdicts),
    }
    return Scores(_as_completions(questions, prompts, texts, reasons), outcomes, summary)


def _as_completions(
    questions: Sequence[Question], prompts: Sequence[str], texts: Sequence[str], reasons: Sequence[str | None]
) -> list[Completion]:
    return [
        Completion(
            sample_index=question.sample_index,
            completion_index=0,
            question=question.question,
            answer=question.answer,
            reasoning_prompt=None,
            reasoning_completion=None,
            reasoning_finish_reason=None,
            prompt=prompt,
            completion=text,
            finish_reason=reason,
        )
        for question, prompt, text, reason in zip(questions, prompts, texts, reasons, strict=True)
    ]
