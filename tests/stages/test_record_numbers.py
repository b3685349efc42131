"""Which record a pair became: found again by question and completion, also where some became none."""

from __future__ import annotations

import numpy as np

from ftcot_jax.rationales.pair_table import PairTable
from ftcot_jax.rationales.pairs import Pair
from ftcot_jax.records.table import RecordTable
from ftcot_jax.stages.data import record_numbers
from ftcot_jax.tasks.load import load_task
from ftcot_jax.tasks.settings import TaskSettings


def test_pairs_find_their_records_and_the_too_long_find_none() -> None:
    rng = np.random.default_rng(0)
    names = [(sample, completion) for sample in (0, 3, 7, 11) for completion in (0, 2, 5, 63)]
    kept = [name for name in names if rng.random() < 0.6]
    kept = [kept[place] for place in rng.permutation(len(kept))]  # of another program, in any order
    ones = np.ones(len(kept), int)
    table = RecordTable.of(ones, ones, ones, *zip(*kept, strict=True), ones)
    pairs = [Pair(sample, completion, "p", "l", True) for sample, completion in names]
    data = load_task(TaskSettings(key="weekday_tracking", train_questions=12, test_questions=1))
    expected = [kept.index(name) if name in kept else -1 for name in names]
    assert -1 in expected
    assert record_numbers(table, PairTable.of(data, pairs)).tolist() == expected
    assert record_numbers(table, PairTable.of(data, [])).tolist() == []
