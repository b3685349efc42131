"""Asking a student the test questions, and scoring what any student wrote."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from ftcot_jax.evaluation.asking import Asking
from ftcot_jax.evaluation.intervals import over_seeds, wilson
from ftcot_jax.evaluation.samples import majority_is_right, mean_pass_at_k
from ftcot_jax.evaluation.settings import EvaluateSettings
from ftcot_jax.generation.generate import Generated, generate, generate_many
from ftcot_jax.generation.sampling import Sampling
from ftcot_jax.students.student import Student
from ftcot_jax.tasks.question import Question
from ftcot_jax.tasks.scoring import score
from ftcot_jax.tasks.task import Task
from ftcot_jax.teacher.completion import Completion

Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class Scores:
    """What a student achieved.

    Attributes:
      completions: its texts, in the authors' row form.
      outcomes: for each question, how many of its texts are right.
      summary: counts, accuracy and its 95% interval, as JSON values.
    """

    completions: list[Completion]
    outcomes: list[int]
    summary: dict[str, Any]


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
    def max_new_tokens(self) -> int | None:
        return self.settings.most_new_tokens(self.ask.template)

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
    on_progress: Progress | None = None,
    epochs: float = math.inf,
) -> Scores:
    """Asks and scores, greedily unless `settings.sampling` says otherwise; a second step is always greedy.

    A prompt beyond the limit is not cut: its question counts as wrong and is counted.
    """
    due = Due(task, questions, ask, settings, epochs)
    steps = 1 if ask.second_of is None else 2
    written: list[Generated] = []

    def write(prompts: Sequence[str], sampling: Sampling | None, stop: Sequence[str]) -> list[Generated]:
        def tell(done: int, total: int) -> None:
            if on_progress is not None:
                on_progress(len(written) + done, steps * total)

        made = generate(
            student,
            params,
            student.encode_prompts(prompts),
            max_length=due.max_length,
            max_new_tokens=due.max_new_tokens,
            batch_rows=settings.batch_rows,
            sampling=sampling,
            stop=stop,
            on_progress=tell,
        )
        written.extend(made)
        return made

    rows = _first_step(student, due, write(due.prompts, settings.sampling, ask.template.stop))
    if ask.second_of is not None:
        rows = [reasoned(row, ask.second_of(row.question, row.prompt, row.completion)) for row in rows]
        second = write([row.prompt for row in rows], None, ())
        answers = student.decode([made.tokens for made in second])
        rows = [
            dataclasses.replace(row, completion=answer, finish_reason=made.finish_reason)
            for row, answer, made in zip(rows, answers, second, strict=True)
        ]
    return _scores(due, rows, written)


def score_students(
    student: Student,
    params_S: Any,
    due_S: Sequence[Due | None],
    on_progress: Progress | None = None,
    frozen: Any = None,
) -> list[Scores | None]:
    """Scores the students of many slots side by side, each as `score_student` would; templates have one step.

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
    assert all(due.ask.second_of is None for _, due in asked)  # what trains has one step
    # Students that are asked and stop alike write together: mostly that is all of them.
    for kind in dict.fromkeys(_kind(due) for _, due in asked):
        now = {slot: due for slot, due in asked if _kind(due) == kind}
        prompts = [student.encode_prompts(now[slot].prompts) if slot in now else [] for slot in range(len(due_S))]
        stop, sampling, limit = kind
        written = generate_many(
            student,
            params_S,
            prompts,
            max_length=[now[slot].max_length if slot in now else 2 for slot in range(len(due_S))],
            max_new_tokens=limit,
            batch_rows=max(due.settings.batch_rows for due in now.values()),
            sampling=sampling,
            stop=stop,
            on_progress=on_progress,
            frozen=frozen,
        )
        for slot, due in now.items():
            found[slot] = _scores(due, _first_step(student, due, written[slot]), written[slot])
    return found


def _kind(due: Due) -> tuple[tuple[str, ...], Sampling | None, int | None]:
    return due.ask.template.stop, due.settings.sampling, due.max_new_tokens


def _first_step(student: Student, due: Due, written: Sequence[Generated]) -> list[Completion]:
    """Rows of the texts of the first step, those of one question next to each other."""
    asked = itertools.product(zip(due.questions, due.prompts, strict=True), range(due.settings.samples))
    texts = student.decode([row.tokens for row in written])
    return [
        as_completion(question, number, prompt, text, made.finish_reason)
        for ((question, prompt), number), text, made in zip(asked, texts, written, strict=True)
    ]


def _scores(due: Due, rows: Sequence[Completion], written: Sequence[Generated]) -> Scores:
    scores = score_rows(due.task, rows, due.ask)
    counts = {
        "prompt_too_long": sum(row.finish_reason == "prompt_too_long" for row in rows),
        "tokens_written": sum(len(row.tokens) for row in written),
    }
    return dataclasses.replace(scores, summary=scores.summary | counts)


def score_rows(task: Task, rows: Sequence[Completion], ask: Asking) -> Scores:
    """Scores what any student wrote.

    Args:
      task: decides how answers are found and compared.
      rows: as many a question for each, one after the other.
      ask: how they were asked for.
    """
    verdicts = [
        score(task, row.completion, row.answer, ask.template.answer_prefix, ask.scoring, row.finish_reason)
        for row in rows
    ]
    questions: dict[int, list[int]] = {}
    for place, row in enumerate(rows):
        questions.setdefault(row.sample_index, []).append(place)
    samples = len(rows) // len(questions)
    outcomes = [sum(verdicts[place].correct for place in places) for places in questions.values()]
    correct = sum(outcomes)
    interval = wilson(correct, len(outcomes)) if samples == 1 else over_seeds([outcomes], samples)
    summary: dict[str, Any] = {
        "questions": len(questions),
        "samples": samples,
        "texts": len(rows),
        "correct": correct,
        "accuracy": correct / len(rows),
        "interval_95": [interval.low, interval.high],
        "contains_answer": sum(verdict.contains_answer for verdict in verdicts),
        "correct_format": sum(verdict.correct_format for verdict in verdicts),
        "complete": sum(verdict.complete for verdict in verdicts),
    }
    if samples > 1:
        votes = Counter(
            majority_is_right(task, [verdicts[place] for place in places], rows[places[0]].answer, ask.scoring)
            for places in questions.values()
        )
        summary |= {
            "pass_at": {str(k): value for k, value in mean_pass_at_k(samples, outcomes).items()},
            "majority_correct": votes[True],
            "majority_accuracy": votes[True] / len(questions),
            "no_majority": votes[None],
        }
    return Scores(list(rows), outcomes, summary)


def as_completion(
    question: Question, number: int, prompt: str, text: str, reason: str | None, thought: str | None = None
) -> Completion:
    """A one-step text as the authors' row; `thought` is what a reasoning model thought before it."""
    return Completion(
        sample_index=question.sample_index,
        completion_index=number,
        question=question.question,
        answer=question.answer,
        reasoning_prompt=None if thought is None else prompt,
        reasoning_completion=thought,
        reasoning_finish_reason=None if thought is None else reason,
        prompt=prompt,
        completion=text,
        finish_reason=reason,
    )


def reasoned(row: Completion, second: str) -> Completion:
    """A one-step row as the first step of two: its text becomes the rationale, `second` is the prompt that follows."""
    return dataclasses.replace(
        row,
        reasoning_prompt=row.prompt,
        reasoning_completion=row.completion,
        reasoning_finish_reason=row.finish_reason,
        prompt=second,
        completion="",
    )
