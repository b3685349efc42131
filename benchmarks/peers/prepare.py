"""Makes the work that all programs of a measurement are given; see `work`. Needs ftcot_jax, and no peer."""

from __future__ import annotations

import argparse
from pathlib import Path

import jax
import numpy as np

from benchmarks.peers.work import STUDENT, GivenWork
from ftcot_jax.bench.writing_work import published_work
from ftcot_jax.errors import FtcotError
from ftcot_jax.rationales.judge import judge
from ftcot_jax.rationales.pairs import rationale_pairs
from ftcot_jax.records.plan import TrialData
from ftcot_jax.records.table import RecordTable
from ftcot_jax.records.tokenize import RecordSettings, tokenize_pairs
from ftcot_jax.students.load import load_student
from ftcot_jax.students.save import save_student
from ftcot_jax.students.settings import StudentSettings
from ftcot_jax.students.student import Student
from ftcot_jax.tasks.load import load_task
from ftcot_jax.tasks.settings import TaskSettings
from ftcot_jax.tasks.task import TaskData
from ftcot_jax.tasks.templates import get_template
from ftcot_jax.teacher.completion import import_completions

SEED = 0  # of the records' order


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What says which work."""
    parser.add_argument("--task", choices=("multiarith", "svamp"), default="multiarith")
    parser.add_argument("--completions", type=Path, required=True, help="the authors' JSON of the task's rationales")
    parser.add_argument("--mirror", help="folder of the benchmarks' upstream files; fetched without it")
    parser.add_argument("--tokenizer", help="folder of GPT-2's tokenizer; the student is then random, of 124M's shape")
    parser.add_argument("--checkpoint", help="a GPT-2 student to begin with, in place of --tokenizer")
    parser.add_argument("--batch", type=int, default=8, help="records a step")
    parser.add_argument(
        "--dropout", action="store_true", help="train with the student's dropout; losses then differ between programs"
    )


def prepare(arguments: argparse.Namespace, folder: Path, *, steps: int, prompts: int) -> GivenWork:
    """Writes the student and the work into `folder`, for `steps` training steps and `prompts` texts.

    Records are the teacher's right rationales of the task's training questions. Which prompts, and how long their
    texts: as `ftcot bench generate` has them.
    """
    if (arguments.tokenizer is None) == (arguments.checkpoint is None):
        raise SystemExit("give --tokenizer for a random student, or --checkpoint")
    scratch = None if arguments.checkpoint else {"model_type": "gpt2", "vocab_size": 50257}
    student = load_student(
        StudentSettings(checkpoint=arguments.checkpoint, scratch=scratch, tokenizer=arguments.tokenizer)
    )
    data = load_task(TaskSettings(key=arguments.task, mirror=arguments.mirror))
    table = read_records(data, student, arguments.completions)
    order = TrialData(np.arange(len(table)), SEED, arguments.batch)
    written = published_work(student, arguments.completions, prompts)
    work = GivenWork(
        records=[table.record(number) for number in range(len(table))],
        prompt_lengths=table.prompt_lengths,
        steps=[order.at(step).tolist() for step in range(steps)],
        epoch_steps=order.steps_in(0),
        batch=arguments.batch,
        dropout=arguments.dropout,
        prompts=written.prompts,
        lengths=written.lengths,
        test_questions=len(data.split.test),
    )
    work.write(folder)
    params = student.load() if arguments.checkpoint else student.init(jax.random.key(SEED))
    save_student(student, params, folder / STUDENT)
    return work


def read_records(data: TaskData, student: Student, completions: Path) -> RecordTable:
    """The right rationales as Fine-tune-CoT's records."""
    judged = judge(data, import_completions(completions, data.questions))
    template = get_template("ft_cot_token", student.kind)
    pairs = [pair for pair in rationale_pairs(data, judged, template, template.prompt) if pair.correct]
    if not pairs:
        raise FtcotError(f"{completions}: no right rationale of {data.task.key}'s training questions")
    return tokenize_pairs(pairs, student.encode, student.eos_id, student.context_length, RecordSettings()).table
