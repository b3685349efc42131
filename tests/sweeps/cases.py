"""Synthetic sweeps for the report's tests: trials as the stages describe them, outcomes drawn from a fixed stream."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from ftcot_jax.sweeps.conditions import Condition
from ftcot_jax.sweeps.cost import Cost
from ftcot_jax.sweeps.results import TrialResult

TRAINING = {"records": 30, "steps": 10, "epochs": 2.0, "loss_first": 2.0, "loss_last": 1.0}
TRAINING |= {"examples_per_second": 5.0, "seconds": 3.0, "packing_efficiency": 0.9, "input_wait_share": 0.01}
TRAINING |= {"mfu": 0.2, "spent": dict.fromkeys(("step", "input", "compile", "evaluate", "checkpoint", "other"), 0.5)}
GPT2 = {"gpt2": 124_439_808, "gpt2-medium": 354_823_168, "gpt2-large": 774_030_080}


def condition(**given: Any) -> Condition:
    """A Fine-tune-CoT student of GPT-2's family on MultiArith, but for what is given."""
    usual = {
        "task": "multiarith",
        "method": "Fine-tune-CoT",
        "student": "gpt2",
        "family": "GPT-2",
        "parameters": GPT2["gpt2"],
        "teacher": "text-davinci-002",
        "diversity": 1,
        "subset": None,
        "train_questions": 420,
        "settings": {},
    }
    return Condition(**usual | given)


def trial(arm: str, seed: int, outcomes: list[int], trained: bool = True, **more: Any) -> TrialResult:
    """A result with so many right texts for each question."""
    samples = more.pop("samples", 1)
    texts = len(outcomes) * samples
    scores = {
        "questions": len(outcomes),
        "samples": samples,
        "texts": texts,
        "correct": sum(outcomes),
        "accuracy": sum(outcomes) / texts,
        "interval_95": [0.0, 1.0],
        "contains_answer": texts,
        "correct_format": texts // 2,
        "complete": 0,
        "prompt_too_long": 1,
        "seconds": 1.0,
    } | more.pop("scores", {})
    training = TRAINING | {"examples_per_second": None}
    kept = {"kept": 30, "covered": 15, "questions": 20}
    untrained = {"method": "Zero-shot", "teacher": None, "diversity": None, "train_questions": None}
    given = {
        "condition": condition(**({} if trained else untrained)),
        "before": None,
        "chosen_by": "last",
        "cost": Cost(),
        "epoch": 2.0,
        "looks": [],
    }
    return TrialResult(
        name=f"{arm}, seed={seed}",
        arm=arm,
        asked=[str(number) for number in range(len(outcomes))],
        outcomes=outcomes,
        training=training if trained else None,
        scores=scores,
        selection=kept if trained else None,
        **given | more,
    )


def drawn(accuracy: float, seed: int, questions: int = 150) -> list[int]:
    """Outcomes of an accuracy, drawn."""
    rng = np.random.default_rng(seed)
    return [int(right) for right in rng.random(questions) < accuracy]


def grid(
    tasks: tuple[str, ...] = ("multiarith", "svamp"),
    students: tuple[str, ...] = tuple(GPT2),
    degrees: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64),
    subsets: tuple[int | None, ...] = (None,),
    teachers: tuple[str, ...] = ("text-davinci-002",),
    seeds: int = 3,
    baselines: bool = True,
) -> list[TrialResult]:
    """Every combination, and for each student zero-shot and answer-only arms."""
    number = itertools.count()
    results = []
    for task, student in itertools.product(tasks, students):
        full = {"multiarith": 420, "svamp": 700, "date_understanding": 258}.get(task, 350)
        shown = {"task": task, "student": student, "parameters": GPT2[student]}
        size = 0.04 * list(GPT2).index(student) + 0.1 * tasks.index(task)
        for degree, subset, teacher, seed in itertools.product(degrees, subsets, teachers, range(seeds)):
            questions = subset or full
            level = (
                0.05 + size + 0.04 * math.log2(degree) + 0.03 * math.log2(questions / 64) + teachers.index(teacher) / 9
            )
            given = condition(
                **shown,
                diversity=degree,
                subset=None if subset is None else f"{subset} questions",
                train_questions=questions,
                teacher=teacher,
                method="Fine-tune-CoT" if degree == 1 else "Diverse reasoning",
                settings={"train.epochs": 20, "teacher.import": f"{teacher}/{task}"},
            )
            name = f"task.key={task}, {student}, D={degree}, n={subset}, {teacher}"
            cost = Cost(0.02 * degree * questions / full, False, 40.0 * degree * GPT2[student] / 1e8, 9.0, 1.2)
            looks = [(float(epoch), level * (1 - 0.7**epoch)) for epoch in (1, 2, 5, 10, 20)]
            outcomes = drawn(min(0.97, max(0.01, level)), next(number))
            results.append(trial(name, seed, outcomes, condition=given, cost=cost, looks=looks))
        if baselines:
            for seed in range(seeds):
                given = condition(**shown, method="Fine-tune", diversity=None, teacher=None, train_questions=full)
                cost = Cost(0.0, False, 30.0 * GPT2[student] / 1e8, 9.0, 1.2)
                outcomes = drawn(0.08 + size / 2, next(number))
                results.append(trial(f"{task}, {student}, answers", seed, outcomes, condition=given, cost=cost))
            asked = condition(**shown, method="Zero-shot", diversity=None, teacher=None, train_questions=None)
            outcomes = drawn(0.03, next(number))
            name = f"{task}, {student}, zero-shot"
            results.append(
                trial(name, 0, outcomes, trained=False, condition=asked, cost=Cost(0.0, False, 0.0, 9.0, 1.2))
            )
    return results
