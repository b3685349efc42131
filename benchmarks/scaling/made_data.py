"""A study of any size: questions, a teacher's rationales in the authors' JSON, and a small student's folder."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path

import jax

from ftcot_jax.students.load import load_student
from ftcot_jax.students.save import save_student
from ftcot_jax.students.settings import StudentSettings
from ftcot_jax.teacher.completion import Completion, write_completions

RECIPE = "study.yaml"
TEST = 8  # questions
_NAMES = ("Ann", "Ben", "Cleo", "Dan")
_THINGS = ("pears", "books", "coins", "shells")
_MOST = 99
_WRONG = 0.1  # of the rationales
_FILLER = ("then", "we", "count", "again", "so", "far", "there", "are", "still", "now", "and", "in", "all")
_WORDS = (
    *_NAMES, *_THINGS, *map(str, range(3 * _MOST + 2)), *dict.fromkeys(_FILLER), "has", "gives", "How", "many", "does",
    "have", "at", "the", "end", "more", "and", "+", "=", ".", "?", "###", "-->",
)  # fmt: skip


def write_study(folder: Path, questions: int, degree: int) -> None:
    """Writes what a run over `questions` training questions of `degree` rationales each starts from."""
    folder.mkdir(parents=True)
    asked = [_question(random.Random(number)) for number in range(questions + TEST)]
    with (folder / "questions.jsonl").open("w", encoding="utf-8") as file:
        for number, (text, terms) in enumerate(asked):
            part = "train" if number < questions else "test"
            file.write(json.dumps({"question": text, "answer": str(sum(terms)), "split": part}) + "\n")
    (folder / "task.yaml").write_text("key: pears\nfile: questions.jsonl\nanswer_type: integer\n", encoding="utf-8")
    metadata = {"base_model": "made", "dataset_key": "pears", "prediction_template": "zs_cot"}
    write_completions(folder / "completions.json", metadata, _rationales(asked[:questions], degree))
    fields = {"model_type": "llama", "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    fields |= {"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 256}
    student = load_student(StudentSettings(scratch=fields), _WORDS)
    save_student(student, student.init(jax.random.key(0)), folder / "student")
    recipe = {
        "name": "study",
        "out": str(folder / "out"),
        "task": {"key": str(folder / "task.yaml")},
        "teacher": {"import": str(folder / "completions.json")},
        "student": {"checkpoint": str(folder / "student")},
        "train": {"epochs": 1, "batch": {"examples": 32}},
        "evaluate": {"questions": TEST, "max_length": 96},
    }
    (folder / RECIPE).write_text(json.dumps(recipe), encoding="utf-8")  # which is YAML too


def _question(rng: random.Random) -> tuple[str, list[int]]:
    """A sum of three, and its terms."""
    who, other = rng.sample(_NAMES, 2)
    thing, terms = rng.choice(_THINGS), [rng.randint(1, _MOST) for _ in range(3)]
    first, second, third = terms
    text = f"{who} has {first} {thing} . {other} gives {who} {second} more and {third} more ."
    return f"{text} How many {thing} does {who} have at the end ?", terms


def _rationales(asked: list[tuple[str, list[int]]], degree: int) -> Iterator[Completion]:
    for number, (text, terms) in enumerate(asked):
        for choice in range(degree):
            rng = random.Random(number * 1009 + choice)
            first, second, third = rng.sample(terms, 3)
            filler = " ".join(rng.choice(_FILLER) for _ in range(rng.randint(0, 40)))
            total = first + second + third + (rng.random() < _WRONG)
            rationale = f"{first} + {second} = {first + second} . {filler} {first + second} + {third} = {total} ."
            prompt = f"Q: {text}\nA: Let's think step by step."
            yield Completion(
                number, choice, text, str(sum(terms)), prompt, rationale, "stop",
                f"{prompt} {rationale}\nTherefore, the answer is", f" {total}", "stop",
            )  # fmt: skip
