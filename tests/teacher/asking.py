"""What the sampler's tests share: six questions, a teacher whose abilities are known, and what a whole result is."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

from ftcot_jax.tasks.question import Question
from ftcot_jax.tasks.templates import answer_prompt, zero_shot_cot_prompt
from ftcot_jax.teacher.endpoint import Abilities
from ftcot_jax.teacher.ledger import Ledger
from ftcot_jax.teacher.probe import fact_name
from ftcot_jax.teacher.sampler import Sampled, sample
from ftcot_jax.teacher.settings import TeacherSettings
from tests.teacher.fault_server import FaultServer

QUESTIONS = [Question(number, f"How many is {number}?", str(number)) for number in range(6)]


def teacher(server: FaultServer, **settings: Any) -> TeacherSettings:
    defaults = {"endpoint": server.url, "model": "teacher", "diversity": 4, "seed": 1, "timeout_seconds": 0.5}
    return TeacherSettings(**{**defaults, **settings})


def know(ledger: Path, asked: TeacherSettings, **abilities: Any) -> None:
    """Enters what the endpoints can do, so that nothing is sent to find it out."""
    with contextlib.closing(Ledger(ledger)) as book:
        for url in asked.endpoints:
            book.remember(fact_name(asked, url), dataclasses.asdict(Abilities(**abilities)))


def ask(server: FaultServer, ledger: Path, diversity: int = 4, **settings: Any) -> Sampled:
    """Samples the questions from an endpoint of known abilities."""
    asked = teacher(server, diversity=diversity, **settings)
    know(ledger, asked)
    return sample(asked, QUESTIONS, ledger)


def assert_whole(sampled: Sampled, diversity: int = 4) -> None:
    """Every completion of every question, both steps, none of them anybody else's."""
    rows = list(sampled.completions)
    places = [(row.sample_index, row.completion_index) for row in rows]
    assert places == [(question.sample_index, n) for question in QUESTIONS for n in range(diversity)]
    for row in rows:
        assert row.reasoning_prompt == zero_shot_cot_prompt(QUESTIONS[row.sample_index].question)
        assert row.prompt == answer_prompt(row.reasoning_prompt, row.reasoning_completion or "")
        assert row.reasoning_finish_reason == row.finish_reason == "stop"
