"""Asking a student the test questions and scoring what it writes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

from ftcot_jax.errors import FtcotError
from ftcot_jax.evaluation.intervals import wilson
from ftcot_jax.evaluation.settings import EvaluateSettings
from ftcot_jax.generation.generate import Generated, generate, generate_many
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


@dataclasses.dataclass(frozen=True)
class Due:
    """A student's questions, when it is to be scored together with others.

    Attributes:
      task: whose answers.
      questions: to be asked.
      ask: how.
      settings: limits.
      epochs: it has trained for; under `paper_lengths` they decide the longest answer.
    """

    task: Task
    questions: Sequence[Question]
    ask: Asking
    settings: EvaluateSettings
    epochs: float = math.inf

    @property
    def prompts(self) -> list[str]:
        return [self.ask.prompt_of(question.question) for question in self.questions]

    @property
    def max_length(self) -> int:
        return self.settings.length_after(self.epochs)


def score_student(
    student: Student,
    params: Any,
    task: Task,
    questions: Sequence[Question],
    ask: Asking,
    settings: EvaluateSettings,
    on_progress: Callable[[int, int], None] | None = None,
    epochs: float = math.inf,
) -> Scores:
    """Asks greedily and scores. A prompt beyond the limit counts as wrong and is counted."""
    due = Due(task, questions, ask, settings, epochs)
    written = generate(
        student,
        params,
        student.encode_prompts(due.prompts),
        max_length=due.max_length,
        batch_rows=settings.batch_rows,
        stop=ask.template.stop,
        on_progress=on_progress,
    )
    return _scores(student, due, written)


def score_students(
    student: Student,
    params_S: Any,
    due_S: Sequence[Due | None],
    on_progress: Callable[[int, int], None] | None = None,
    frozen: Any = None,
) -> list[Scores | None]:
    """Scores the students of many slots side by side, each as `score_student` would.

    Args:
      student: the architecture.
      params_S: weights, every leaf with the slot axis first, on whatever devices they are.
      due_S: what each slot's student is asked; None for a slot that is not to be scored.
      on_progress: called with (texts done, texts in all).
      frozen: params that all slots share, where `params_S` holds adapters alone.

    Returns:
      The scores of each slot; None where nothing was asked.
    """
    found: list[Scores | None] = [None] * len(due_S)
    asked = [(slot, due) for slot, due in enumerate(due_S) if due is not None]
    # Students whose templates stop alike write together: mostly that is all of them.
    for stop in dict.fromkeys(due.ask.template.stop for _, due in asked):
        now = {slot: due for slot, due in asked if due.ask.template.stop == stop}
        prompts = [student.encode_prompts(now[slot].prompts) if slot in now else [] for slot in range(len(due_S))]
        written = generate_many(
            student,
            params_S,
            prompts,
            max_length=[now[slot].max_length if slot in now else 2 for slot in range(len(due_S))],
            batch_rows=max(due.settings.batch_rows for due in now.values()),
            stop=stop,
            on_progress=on_progress,
            frozen=frozen,
        )
        for slot, due in now.items():
            found[slot] = _scores(student, due, written[slot])
    return found


def _scores(student: Student, due: Due, written: Sequence[Generated]) -> Scores:
    reasons = [row.finish_reason for row in written]
    texts = student.decode([row.tokens for row in written])
    scores = score_texts(due.task, due.questions, due.ask, due.prompts, texts, reasons)
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
