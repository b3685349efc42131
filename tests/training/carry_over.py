"""Fifty steps of the reference's training in PyTorch, on the records that ours packs.

Run as a module, with the shared data there, to write the goldens again:

python -m tests.training.carry_over [CASE ...]
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

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
from ftcot_jax.tasks.templates import get_template
from ftcot_jax.teacher.completion import import_completions
from tests.students.torch_oracle import load_torch

GOLDENS = Path(__file__).parent / "goldens"
STEPS, BATCH = 50, 8
T5_END = 1
COMPLETIONS = "data/completions/B_text-davinci-002__C_zs_cot/D_multiarith.json"
CASES: dict[str, dict[str, Any]] = {
    "gpt2": {
        "tokenizer": "gpt2-tokenizer",
        "fields": {"model_type": "gpt2", "n_embd": 96, "n_head": 4, "n_layer": 3, "n_positions": 512},
    },
    "t5": {
        "tokenizer": "flan-t5-tokenizer",
        "fields": {
            "model_type": "t5",
            "d_model": 64,
            "d_kv": 16,
            "d_ff": 160,
            "num_layers": 2,
            "num_decoder_layers": 3,
            "num_heads": 4,
            "feed_forward_proj": "gated-gelu",
            "tie_word_embeddings": False,
        },
    },
}


class Records(NamedTuple):
    """Token records over a compact vocabulary: `tokens` end to end, prompt and label `lengths` (N, 2)."""

    tokens: np.ndarray
    lengths: np.ndarray
    vocabulary: int

    @property
    def table(self) -> RecordTable:
        ends = np.cumsum(self.lengths.ravel())
        parts = np.split(self.tokens, ends[:-1])
        return RecordTable.from_rows(
            [
                {
                    "input_ids": parts[2 * number],
                    "label_ids": parts[2 * number + 1],
                    "sample_index": number,
                    "completion_index": 0,
                    "correct": True,
                }
                for number in range(len(self.lengths))
            ]
        )


def multiarith(shared: Path, tokenizer: str) -> Records:
    """The teacher's right rationales of MultiArith's training questions, in the student's tokens.

    Token ids are renumbered to those that occur, in order, so that a small student's time does not go into a
    vocabulary it never meets.
    """
    import transformers

    data = load_task(TaskSettings(key="multiarith", mirror=str(shared / "data" / "upstream")))
    judged = judge(data, import_completions(shared / COMPLETIONS, data.questions))
    template = get_template("ft_cot_token")
    pairs = [pair for pair in rationale_pairs(data, judged, template, template.prompt) if pair.correct]
    words = transformers.AutoTokenizer.from_pretrained(shared / "models" / tokenizer)

    def encode(texts: Any) -> list[list[int]]:
        return words(list(texts), add_special_tokens=False)["input_ids"]

    made = tokenize_pairs(pairs, encode, words.eos_token_id, 512, RecordSettings()).table
    # Padding (0 in T5) and the end token keep their places at the ends of the order.
    kept, compact = np.unique(np.r_[0, words.eos_token_id, made.tokens], return_inverse=True)
    lengths = np.stack([made.prompt_lengths, made.label_lengths], 1).astype(np.int16)
    return Records(compact[2:].astype(np.int16), lengths, len(kept))


def write_initial(case: str, records: Records, folder: Path) -> Student:
    """Writes the checkpoint that both sides start from, of weights as the architecture is first drawn."""
    fields = CASES[case]["fields"] | {"vocab_size": records.vocabulary}
    student = load_student(StudentSettings(scratch=fields), ["a", "word"])
    save_student(student, student.init(jax.random.key(0)), folder)
    return load_student(StudentSettings(checkpoint=str(folder), dropout=False))


def order(records: Records) -> list[np.ndarray]:
    """The records of each step: batches of eight over shuffled epochs, the last of an epoch shorter."""
    data = TrialData(np.arange(len(records.lengths)), seed=0, batch_examples=BATCH)
    return [data.at(step) for step in range(STEPS)]


def torch_losses(folder: Path, records: Records, restart_positions: bool = True) -> np.ndarray:
    """Trains as the reference does and returns each step's loss.

    Every record is padded to the longest of the whole set: a decoder's prompt and label on the left, an
    encoder-decoder's on the right, each to the longest of its kind. AdamW with PyTorch's defaults, learning rate
    3e-4, nothing clipped, no schedule, dropout off.

    Args:
      folder: the initial checkpoint.
      records: what is trained on.
      restart_positions: whether a left-padded text's positions count from its first token, as `generate`
        counts them. The reference's training lets them count from the first pad.
    """
    import torch

    model = load_torch(folder)  # in eval mode: no dropout
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, weight_decay=0.01)
    table, losses = records.table, []
    decoder = not model.config.is_encoder_decoder
    batch = _left_padded(table, records.vocabulary - 1) if decoder else _right_padded(table)
    for numbers in order(records):
        fed = {name: torch.tensor(rows[numbers]) for name, rows in batch.items()}
        if decoder and restart_positions:
            fed["position_ids"] = (fed["attention_mask"].cumsum(-1) - 1).clamp(min=0)
        loss = model(**fed).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.array(losses)


def _left_padded(table: RecordTable, pad: int) -> dict[str, np.ndarray]:
    """A decoder's whole set: prompt and label in one row, pads before them, labels where there are labels."""
    width = int(table.lengths.max())
    shape = (len(table), width)
    tokens, mask, labels = np.full(shape, pad, np.int64), np.zeros(shape, np.int64), np.full(shape, -100, np.int64)
    for number in range(len(table)):
        begin, record = width - int(table.lengths[number]), table.record(number)
        tokens[number, begin:], mask[number, begin:] = record, 1
        prompt = int(table.prompt_lengths[number])
        labels[number, begin + prompt :] = record[prompt:]
    return {"input_ids": tokens, "attention_mask": mask, "labels": labels}


def _right_padded(table: RecordTable) -> dict[str, np.ndarray]:
    """An encoder-decoder's whole set: prompts with the end token, which T5's tokenizer adds, and labels."""
    widths = int(table.prompt_lengths.max()) + 1, int(table.label_lengths.max())
    tokens, mask = (np.zeros((len(table), widths[0]), np.int64) for _ in range(2))
    labels = np.full((len(table), widths[1]), -100, np.int64)
    for number in range(len(table)):
        prompt, record = int(table.prompt_lengths[number]), table.record(number)
        tokens[number, : prompt + 1], mask[number, : prompt + 1] = [*record[:prompt], T5_END], 1
        labels[number, : len(record) - prompt] = record[prompt:]
    return {"input_ids": tokens, "attention_mask": mask, "labels": labels}


def read_golden(case: str) -> tuple[Records, dict[str, np.ndarray]]:
    """The stored records, and what PyTorch's losses on them were."""
    stored = dict(np.load(GOLDENS / f"{case}.npz", allow_pickle=False))
    records = Records(stored.pop("tokens"), stored.pop("lengths"), int(stored.pop("vocabulary")))
    return records, stored


def compute(case: str, records: Records) -> dict[str, np.ndarray]:
    """PyTorch's losses."""
    with tempfile.TemporaryDirectory() as scratch:
        write_initial(case, records, Path(scratch))
        losses = {"losses": torch_losses(Path(scratch), records)}
        if case == "gpt2":
            losses["losses_counting_pads"] = torch_losses(Path(scratch), records, restart_positions=False)
    return losses


if __name__ == "__main__":
    GOLDENS.mkdir(exist_ok=True)
    for name in sys.argv[1:] or CASES:
        found = multiarith(Path(os.environ["FTCOT_SHARED"]), CASES[name]["tokenizer"])
        np.savez_compressed(GOLDENS / f"{name}.npz", **found._asdict(), **compute(name, found))
        print(name, len(found.lengths), "records,", found.vocabulary, "tokens")
