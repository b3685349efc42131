"""Rows are full: on the lengths of published rationales, and on others of like spread."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from ftcot_jax.rationales.judge import judge
from ftcot_jax.rationales.pairs import rationale_pairs
from ftcot_jax.records.plan import Efficiency, Planner, TokenBudget, TrialData
from ftcot_jax.records.sizes import part_lengths
from ftcot_jax.records.table import RecordTable
from ftcot_jax.records.tokenize import RecordSettings, tokenize_pairs
from ftcot_jax.tasks.load import load_task
from ftcot_jax.tasks.settings import TaskSettings
from ftcot_jax.tasks.templates import get_template
from ftcot_jax.teacher.completion import import_completions

FILES = {
    "multiarith": "B_pooled__C_zs_cot_t70/D_multiarith.json",
    "svamp": "B_chatgpt__C_zs_cot_t70/D_svamp.json",
}
TOKENIZERS = {"decoder": "gpt2-tokenizer", "encoder_decoder": "flan-t5-tokenizer"}


@functools.lru_cache(maxsize=2)
def published(shared: Path, task: str, kind: str, most: int = 8) -> RecordTable:
    """The right ones of the first `most` rationales of each training question."""
    data = load_task(TaskSettings(key=task, mirror=str(shared / "data" / "upstream")))
    completions = import_completions(shared / "data" / "completions" / FILES[task], data.questions)
    few = [row for row in completions if row.completion_index < most]
    template = get_template("ft_cot_token")
    pairs = [pair for pair in rationale_pairs(data, judge(data, few), template, template.prompt) if pair.correct]
    backend = Tokenizer.from_file(str(shared / "models" / TOKENIZERS[kind] / "tokenizer.json"))

    def encode(texts: Any) -> list[list[int]]:
        return [encoding.ids for encoding in backend.encode_batch_fast(list(texts), add_special_tokens=False)]

    return tokenize_pairs(pairs, encode, 1, 1024, RecordSettings()).table


def spread_like() -> RecordTable:
    """Eight rationales of each of 300 questions, of lengths spread as published ones are."""
    rng = np.random.default_rng(0)
    prompts = np.repeat(rng.lognormal(3.9, 0.3, 300).clip(8, 200).astype(np.int32), 8)
    lengths = prompts + rng.lognormal(4.3, 0.5, 2400).clip(8, 400).astype(np.int32)
    questions = np.repeat(np.arange(300), 8)
    tokens = np.repeat(questions.astype(np.int32), lengths)
    return RecordTable.of(tokens, lengths, prompts, questions, np.arange(2400) % 8, np.ones(2400, bool))


def efficiency(table: RecordTable, kind: Any, tokens: int, share: bool) -> Efficiency:
    budget, most = TokenBudget.of(part_lengths(table, kind), tokens, 1024)
    trial = TrialData(np.arange(len(table)), 0, most, budget)
    return Planner.for_trials(table, [trial], width=768, kind=kind, share_questions=share).efficiency(trial)


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("task", FILES)
def test_rows_of_published_rationales_are_full(shared: Path, task: str, share: bool) -> None:
    table = published(shared, task, "decoder")
    assert len(table) > 1000
    found = efficiency(table, "decoder", 65536, share)
    assert found.filled > 0.95
    assert (found.shared > 0.05) == share


@pytest.mark.parametrize("task", FILES)
def test_both_blocks_of_published_pairs_are_full(shared: Path, task: str) -> None:
    """Prompts are half as long as rationales: the encoder's rows are shorter to match, in every batch."""
    table = published(shared, task, "encoder_decoder")
    assert efficiency(table, "encoder_decoder", 65536, False).filled > 0.95


@pytest.mark.parametrize("share", [False, True])
def test_rows_of_a_like_spread_are_full(share: bool) -> None:
    found = efficiency(spread_like(), "decoder", 32768, share)
    assert found.filled > 0.95
    assert (found.shared > 0.05) == share


def test_both_blocks_of_a_like_spread_are_full() -> None:
    assert efficiency(spread_like(), "encoder_decoder", 32768, False).filled > 0.95
