"""The road from completions to batches, one measurable stage after another."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import numpy as np
from etils import epath

from ftcot_jax.errors import FtcotError
from ftcot_jax.rationales.judge import Judged, judge
from ftcot_jax.rationales.pairs import Pair, rationale_pairs
from ftcot_jax.records.builder import read_dataset, read_records, write_records
from ftcot_jax.records.manifest import Made, column_file, record_files
from ftcot_jax.records.plan import Planner, TokenBudget, TrialData
from ftcot_jax.records.sizes import part_lengths
from ftcot_jax.records.table import COLUMNS, RecordTable
from ftcot_jax.records.tokenize import RecordSettings, tokenize_pairs
from ftcot_jax.students.student import Student
from ftcot_jax.tasks.question import Question
from ftcot_jax.tasks.registry import get_task
from ftcot_jax.tasks.scoring import Scoring
from ftcot_jax.tasks.task import Split, TaskData
from ftcot_jax.tasks.templates import Template, get_template
from ftcot_jax.teacher.completion import CompletionFile, read_completions
from ftcot_jax.training.flops import StepFlops
from ftcot_jax.training.input import Where, make_input
from ftcot_jax.training.mesh import make_mesh
from ftcot_jax.training.settings import BatchSettings, MeshSettings

_READ_BYTES = 1 << 22
_PAPER_EXAMPLES = 8
_MOST_COMPLETIONS = 1024  # of a question, as the device names records


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Who will train on the records, and how.

    Attributes:
      student: its tokenizer, context and arithmetic.
      template: forms prompts and labels.
      scoring: the judge's rules.
      records: the length limit; what is too long is left out and counted.
      batch: a step's.
    """

    student: Student
    template: Template
    scoring: Scoring = "paper"
    records: RecordSettings = dataclasses.field(default_factory=lambda: RecordSettings(too_long="drop"))
    batch: BatchSettings = dataclasses.field(default_factory=BatchSettings)


class Road:
    """Takes completion files to batches; each stage leaves what the next begins with.

    Args:
      files: CompletionDataset files; of one task or several.
      copies: how many times each is taken, as if the teacher had written so many times as much.
      wanted: who trains.
      folder: where the records are written.
    """

    def __init__(self, files: Sequence[str], copies: int, wanted: Wanted, folder: Path) -> None:
        self._files, self._copies, self._wanted = files, copies, wanted
        self._folder = epath.Path(folder)
        self.read: list[CompletionFile] = []
        self.judged: list[list[Judged]] = []
        self.pairs: list[Pair] = []
        self.too_long = 0
        self.table: RecordTable
        self.data: TrialData
        self.planner: Planner

    def read_completions(self) -> None:
        """All files, each so many times."""
        self.read = [read_completions(file) for file in self._files for _ in range(self._copies)]

    @functools.cached_property
    def tasks(self) -> list[TaskData]:
        """Of each file read: its task with the questions that the file holds, all of them for training.

        Raises:
          FtcotError: a file does not say whose completions it holds, holds none, or too many of a question.
        """
        found = []
        for file, read in zip(self._names(), self.read, strict=True):
            key = read.metadata.get("dataset_key")
            if not isinstance(key, str):
                raise FtcotError(f"{file}: metadata has no dataset_key, the name of the task; add it")
            if not read.completions:
                raise FtcotError(f"{file} holds no completions")
            most = 1 + max(row.completion_index for row in read.completions)
            if most * self._copies > _MOST_COMPLETIONS:
                raise FtcotError(
                    f"{file}: {most} completions a question; {_MOST_COMPLETIONS} are the most, copies included"
                )
            rows = {row.sample_index: row for row in read.completions}
            questions = {index: Question(index, row.question, row.answer) for index, row in rows.items()}
            found.append(TaskData(get_task(key), questions, Split(tuple(sorted(questions)), ())))
        return found

    def _names(self) -> list[str]:
        return [file for file in self._files for _ in range(self._copies)]

    def judge(self) -> None:
        """A verdict on every completion."""
        self.judged = []
        for task, read in zip(self.tasks, self.read, strict=True):
            prefix = get_template(read.metadata.get("prediction_template") or "zs_cot").answer_prefix
            self.judged.append(list(judge(task, read.completions, prefix, self._wanted.scoring)))

    def pair(self) -> None:
        """Prompts and labels, every completion numbered apart."""
        template = self._wanted.template
        self.pairs, base = [], 0
        for place, (task, judged) in enumerate(zip(self.tasks, self.judged, strict=True)):
            most = 1 + max(row.completion_index for row in judged)
            copy = place % self._copies
            for pair in rationale_pairs(task, judged, template, template.prompt):
                number = pair.completion_index + copy * most
                self.pairs.append(
                    dataclasses.replace(pair, sample_index=base + pair.sample_index, completion_index=number)
                )
            if copy == self._copies - 1:
                base += 1 + max(task.questions)

    def tokenize(self) -> None:
        """Pairs to records.

        Raises:
          FtcotError: none fits, or none is right.
        """
        student = self._wanted.student
        made = tokenize_pairs(self.pairs, student.encode, student.eos_id, student.context_length, self._wanted.records)
        self.table, self.too_long = made.table, made.too_long
        if not self.table.correct.any():
            raise FtcotError(
                f"none of {len(self.pairs)} completions of {', '.join(self._files)} is right and short enough "
                f"({self.too_long} too long); nothing can be packed"
            )

    def write(self) -> None:
        """The TFDS dataset, and the arrays beside it."""
        if self._folder.exists():
            self._folder.rmtree()
        write_records(self._folder, self.table, Made(tokenizer="-", template={}))

    def open(self) -> None:
        """The files held against their digests, the arrays mapped."""
        self.table = read_records(self._folder)

    def gather(self) -> None:
        """Every record once, eight at a time in random order."""
        order = np.random.default_rng(0).permutation(len(self.table))
        for part in np.split(order, range(_PAPER_EXAMPLES, len(order), _PAPER_EXAMPLES)):
            self.table.only(part)

    def read_dataset(self) -> None:
        """The TFDS dataset, as other programs read it."""
        read_dataset(self._folder)

    def plan(self) -> None:
        """The order of an epoch, and the shapes its batches are compiled for."""
        student, batch = self._wanted.student, self._wanted.batch
        records = np.flatnonzero(self.table.correct)
        if batch.tokens is None:
            self.data = TrialData(records, 0, batch.examples or _PAPER_EXAMPLES)
        else:
            lengths = part_lengths(self.table, student.kind)[records]
            try:
                budget, most = TokenBudget.of(lengths, batch.tokens, batch.row_length)
            except ValueError as error:
                raise FtcotError(f"train.batch: {error}; raise row_length or tokens") from error
            self.data = TrialData(records, 0, most, budget)
        width = jax.eval_shape(student.head, student.shapes).shape[1]
        self.planner = Planner.for_trials(
            self.table, [self.data], width=width, kind=student.kind, share_questions=batch.share_questions
        )

    def pack(self) -> None:
        """Every batch of an epoch."""
        for step in range(self.data.steps_in(0)):
            self.planner.batch(self.data.at(step))

    def feed(self, where: Where) -> None:
        """An epoch as the training loop asks for it, one slot, no training."""
        feeding = make_input(where, self.table, self.planner, [self.data], 1, make_mesh(MeshSettings()))
        steps = self.data.steps_in(0)
        feeding.seat(0, self.data, 0, steps)
        try:
            for _ in range(steps):
                feeding.next()
        finally:
            feeding.close()

    @property
    def array_files(self) -> list[epath.Path]:
        return [column_file(self._folder, name) for name in COLUMNS]

    @property
    def dataset_files(self) -> list[epath.Path]:
        return record_files(self._folder)

    def step_flops(self) -> float:
        """Operations that a step of the epoch needs, on average."""
        student = self._wanted.student
        head = jax.eval_shape(student.head, student.shapes).shape
        lengths, labels = self.planner.sizes.lengths, self.planner.sizes.labels
        each = StepFlops.of(student.shapes_by_path, head).total(lengths[self.data.records], labels[self.data.records])
        return each / self.data.steps_in(0)

    def padding(self) -> dict[str, float]:
        """Share of computed places that hold no token: packed, and padded as others do."""
        data, lengths = self.data, part_lengths(self.table, self._wanted.student.kind)
        batches = [lengths[data.at(step)] for step in range(data.steps_in(0))]
        held = sum(int(batch.sum()) for batch in batches)
        of_batch = sum(len(batch) * int(batch.max(0).sum()) for batch in batches)
        of_set = len(data.records) * int(lengths[data.records].max(0).sum())
        return {
            "packed": 1 - self.planner.efficiency(data).filled,
            "padded to the longest of the batch": 1 - held / of_batch,
            "padded to the longest of the set": 1 - held / of_set,
        }


def read_raw(files: Sequence[epath.Path]) -> Callable[[], None]:
    """Reads files from beginning to end and does nothing with them: what any reader takes at least."""

    def read() -> None:
        for file in files:
            with open(file, "rb", buffering=0) as opened:
                while opened.read(_READ_BYTES):
                    pass

    return read
