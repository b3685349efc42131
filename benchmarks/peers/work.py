"""What all programs of a measurement are given, as plain files that any environment reads.

A folder of: ``student/``, a GPT-2 in the Hugging Face layout; ``records.npz``, the records' tokens; ``work.json``,
which records each step takes, and the prompts to continue with the tokens to write after each.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np

STUDENT = "student"
_RECORDS, _WORK = "records.npz", "work.json"


@dataclasses.dataclass(frozen=True)
class GivenWork:
    """Of one measurement.

    Attributes:
      records: the tokens of each record, prompt then label.
      prompt_lengths: (N,) tokens of each record's prompt.
      steps: record numbers of each step, an epoch after another.
      epoch_steps: steps of one epoch.
      batch: records a step; the last of an epoch may have fewer.
      dropout: whether the student's dropout is on.
      prompts: token ids to continue.
      lengths: tokens to write after each.
      test_questions: of the task; `prompts` may be fewer.
    """

    records: list[np.ndarray]
    prompt_lengths: np.ndarray
    steps: list[list[int]]
    epoch_steps: int
    batch: int
    dropout: bool
    prompts: list[list[int]]
    lengths: list[int]
    test_questions: int

    def tokens_of(self, step: list[int]) -> int:
        """Real tokens of a step's records."""
        return sum(len(self.records[number]) for number in step)

    def write(self, folder: Path) -> None:
        lengths = np.array([len(record) for record in self.records])
        np.savez(
            folder / _RECORDS, tokens=np.concatenate(self.records), lengths=lengths, prompt_lengths=self.prompt_lengths
        )
        rest = {name: getattr(self, name) for name in _names() if name not in ("records", "prompt_lengths")}
        (folder / _WORK).write_text(json.dumps(rest) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> GivenWork:
        with np.load(folder / _RECORDS) as held:
            tokens, lengths, prompt_lengths = held["tokens"], held["lengths"], held["prompt_lengths"]
        records = np.split(tokens, np.cumsum(lengths)[:-1])
        return cls(records, prompt_lengths, **json.loads((folder / _WORK).read_text(encoding="utf-8")))


def _names() -> list[str]:
    return [field.name for field in dataclasses.fields(GivenWork)]
