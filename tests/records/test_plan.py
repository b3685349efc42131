"""The plan: every record exactly once an epoch, batches of the reference's size, packings that do not overlap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftcot_jax.records.packing import pack
from ftcot_jax.records.plan import Planner, TokenBudget, TrialData
from ftcot_jax.records.table import RecordTable


def make_table(rng: np.random.Generator, count: int, longest: int = 30) -> RecordTable:
    rows = []
    for number in range(count):
        prompt, label = rng.integers(1, longest // 2), rng.integers(1, longest // 2)
        rows.append(
            {
                "input_ids": rng.integers(1, 50, prompt),
                "label_ids": rng.integers(1, 50, label),
                "sample_index": number // 3,
                "completion_index": number % 3,
                "correct": bool(number % 2),
            }
        )
    return RecordTable.from_rows(rows)


@given(count=st.integers(1, 200), batch=st.integers(1, 17), seed=st.integers(0, 2**32), epoch=st.integers(0, 30))
@settings(max_examples=60, deadline=None)
def test_every_record_exactly_once_an_epoch(count: int, batch: int, seed: int, epoch: int) -> None:
    numbers = np.random.default_rng(count).permutation(count * 3)[:count]
    trial = TrialData(numbers, seed, batch)
    steps = range(epoch * trial.steps_in(0), (epoch + 1) * trial.steps_in(0))
    seen = [trial.at(step) for step in steps]
    assert sorted(np.concatenate(seen)) == sorted(numbers)
    assert all(len(records) == batch for records in seen[:-1])


def test_order_differs_by_epoch_and_seed_but_never_by_call() -> None:
    trial = TrialData(np.arange(64), seed=3, batch_examples=64)
    assert list(trial.at(0)) != list(trial.at(1))
    assert list(trial.at(0)) != list(TrialData(np.arange(64), seed=4, batch_examples=64).at(0))
    assert list(trial.at(5)) == list(TrialData(np.arange(64), seed=3, batch_examples=64).at(5))
    # The stream itself is part of the contract: a changed order would break resuming of older runs.
    assert list(TrialData(np.arange(8), seed=1, batch_examples=8).at(0)) == [3, 5, 2, 7, 0, 6, 1, 4]


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=64))
@settings(max_examples=100, deadline=None)
def test_packed_records_lie_apart_inside_their_rows(lengths: list[int]) -> None:
    packing = pack(np.array(lengths)[:, None], (40,))
    filled = np.zeros((packing.rows, 40), int)
    for length, row, start in zip(lengths, packing.row, packing.start[:, 0], strict=True):
        assert start + length <= 40
        filled[row, start : start + length] += 1
    assert filled.max() == 1
    assert filled.sum() == sum(lengths)
    # First fit: a row was opened only for a record that no earlier row had room for.
    used = filled.sum(axis=1)
    for row in range(packing.rows):
        opener = next(
            n for n, (r, at) in enumerate(zip(packing.row, packing.start[:, 0], strict=True)) if (r, at) == (row, 0)
        )
        assert all(used[earlier] + lengths[opener] > 40 for earlier in range(row))


def test_a_record_longer_than_the_row_is_refused() -> None:
    with pytest.raises(ValueError, match="record of 9 tokens does not fit a row of 8"):
        pack(np.array([[3], [9]]), (8,))


@given(seed=st.integers(0, 1000), batch=st.integers(1, 9), multiple=st.sampled_from([1, 2, 4]))
@settings(max_examples=30, deadline=None)
def test_every_planned_batch_fits_its_shape(seed: int, batch: int, multiple: int) -> None:
    table = make_table(np.random.default_rng(seed), count=40)
    trials = [TrialData(np.arange(0, 40), seed, batch), TrialData(np.arange(5, 12), seed + 1, batch)]
    planner = Planner.for_trials(table, trials, row_multiple=multiple, width=16)
    for trial in trials:
        for step in range(3 * trial.steps_in(0)):
            records = trial.at(step)
            planned, shape = planner.batch(records)
            assert list(planned.record[: len(records)]) == list(records)
            assert (planned.record[len(records) :] == -1).all()
            assert shape.rows % multiple == 0
            assert planned.row.max() < shape.rows
            assert table.label_lengths[records].sum() <= shape.labels


@given(parts=st.lists(st.tuples(st.integers(1, 30), st.integers(1, 20)), min_size=1, max_size=40))
@settings(max_examples=100, deadline=None)
def test_pairs_lie_apart_in_one_row_of_both_blocks(parts: list[tuple[int, int]]) -> None:
    packing = pack(np.array(parts), (30, 20))
    for part, room in enumerate((30, 20)):
        filled = np.zeros((packing.rows, room), int)
        for lengths, row, start in zip(parts, packing.row, packing.start[:, part], strict=True):
            assert start + lengths[part] <= room
            filled[row, start : start + lengths[part]] += 1
        assert filled.max() == 1
        assert filled.sum() == sum(lengths[part] for lengths in parts)


@given(seed=st.integers(0, 1000), batch=st.integers(1, 9))
@settings(max_examples=20, deadline=None)
def test_every_planned_batch_of_pairs_fits_its_shape(seed: int, batch: int) -> None:
    table = make_table(np.random.default_rng(seed), count=40)
    trial = TrialData(np.arange(40), seed, batch)
    planner = Planner.for_trials(table, [trial], width=16, kind="encoder_decoder")
    for step in range(2 * trial.steps_in(0)):
        records = trial.at(step)
        planned, shape = planner.batch(records)
        count = len(records)
        assert (planned.start[:count, 0] + table.label_lengths[records]).max() <= shape.length
        assert (planned.start[:count, 1] + table.prompt_lengths[records] + 1).max() <= shape.source_length
        assert planned.row.max() < shape.rows


@given(
    lengths=st.lists(st.integers(1, 64), min_size=1, max_size=60),
    rows=st.integers(1, 4),
    seed=st.integers(0, 3),
)
def test_token_batches_hold_every_record_once_an_epoch_and_fit(lengths: list[int], rows: int, seed: int) -> None:
    parts = np.array(lengths, np.int32)[:, None]
    budget, most = TokenBudget.of(parts, 64 * rows, 64)
    trial = TrialData(np.arange(100, 100 + len(lengths)), seed, most, budget)
    step = 0
    for epoch in range(3):
        assert step == trial.first_step(epoch)
        batches = [trial.at(step + number) for number in range(trial.steps_in(epoch))]
        step += len(batches)
        assert sorted(np.concatenate(batches)) == list(trial.records)
        for batch in batches:
            assert 1 <= len(batch) <= most
            assert pack(parts[batch - 100], (64,)).rows <= rows
        assert trial.epochs_at(step) == epoch + 1


def test_token_batches_are_nearly_full_and_the_planner_takes_them() -> None:
    lengths = np.random.RandomState(0).lognormal(4.8, 0.5, 3000).clip(8, 512).astype(np.int32)
    table = RecordTable.from_rows(
        [
            {"input_ids": np.ones(n // 2), "label_ids": np.ones(n - n // 2), "sample_index": i, "completion_index": 0}
            | {"correct": True}
            for i, n in enumerate(lengths.tolist())
        ]
    )
    budget, most = TokenBudget.of(lengths[:, None], 16384, 1024)
    trial = TrialData(np.arange(3000), 1, most, budget)
    planner = Planner.for_trials(table, [trial], width=64)
    assert planner.efficiency(trial).filled > 0.95
    records = trial.at(3)
    batch, shape = planner.batch(records)
    assert (shape.rows, shape.length) == (16, 1024)
    assert sorted(batch.record[batch.record >= 0]) == sorted(records)


@pytest.mark.parametrize(
    ("tokens", "row", "message"),
    [(32, 64, "a batch of 32 tokens has no room for a row of 64"), (64, 32, "a record of 40 tokens does not fit")],
)
def test_a_budget_too_small_is_refused(tokens: int, row: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TokenBudget.of(np.array([[40]], np.int32), tokens, row)
