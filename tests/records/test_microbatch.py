"""Microbatches: every record whole in one of them, their rows and labels dealt evenly, few compiled shapes."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from ftcot_jax.records.batch import PackedBatch, PairTokens, assemble, assemble_pairs, device_table
from ftcot_jax.records.microbatch import divide
from ftcot_jax.records.packing import Packing, deal_rows
from ftcot_jax.records.plan import Planner, TokenBudget, TrialData
from ftcot_jax.records.sizes import Kind, part_lengths
from tests.training.tiny import make_records

TABLE = make_records(40)


def test_rows_are_dealt_by_their_labels() -> None:
    row = np.array([0, 0, 1, 2, 3, 4], np.int32)
    packing = Packing(row, np.zeros((6, 1), np.int32), rows=5, tokens=6)
    dealt, room = deal_rows(packing, np.array([1, 1, 9, 4, 3, 8]), 2)  # labels by row: 2, 9, 4, 3, 8
    assert dealt.row.tolist() == [4, 4, 0, 2, 3, 1]
    assert room == 2 * (9 + 4 + 2)  # rows 0, 2, 4 of the new numbers: 9, 4, 2
    assert deal_rows(packing, np.array([1, 1, 9, 4, 3, 8]), 1) == (packing, 26)


@pytest.mark.parametrize("kind", ["decoder", "encoder_decoder"])
@pytest.mark.parametrize(("microbatches", "share"), [(1, 1), (2, 1), (4, 1), (2, 2), (3, 1)])
def test_every_record_is_whole_in_one_microbatch(kind: Kind, microbatches: int, share: int) -> None:
    trial = TrialData(np.arange(40), seed=2, batch_examples=13)
    planner = Planner.for_trials(TABLE, [trial], width=16, kind=kind, row_multiple=share, microbatches=microbatches)
    table = device_table(TABLE)
    for step in range(2 * trial.steps_in(0)):
        records = trial.at(step)
        for shape, planned in planner.batches(records).items():  # slots of other batches may need a larger one
            assert shape.rows % (microbatches * share) == 0
            assert shape.labels % (64 * microbatches) == 0
            around = PairTokens(1, 0)
            whole = assemble(table, planned, shape) if kind == "decoder" else None
            parts = divide(whole or assemble_pairs(table, planned, shape, around), microbatches)
            assert parts.label.shape == (microbatches, shape.labels // microbatches)
            assert parts.text.tokens.shape == (microbatches, shape.rows // microbatches, shape.length)
            found = []
            for number in range(microbatches):
                part = jax.tree.map(lambda leaf, n=number: np.asarray(leaf[n]), parts)
                found += check_part(part, kind)
            assert sorted(found) == sorted(records)


def check_part(part: PackedBatch, kind: Kind) -> list[int]:
    """Returns the records that lie in a microbatch, each with all its tokens and labels in its place."""
    found = []
    used = part.label_weight > 0
    at = part.label_at[used]
    for name in sorted(set(part.text.records[part.text.segments > 0].tolist())):
        record = int(np.flatnonzero(TABLE.sample_index * 1024 == name)[0])
        prompt, target = np.split(TABLE.record(record), [TABLE.prompt_lengths[record]])
        here = (part.text.records == name) & (part.text.segments > 0)
        assert len({*np.nonzero(here)[0]}) == 1
        read = part.text.tokens[here]
        np.testing.assert_array_equal(read, [*prompt, *target] if kind == "decoder" else [1, *target[:-1]])
        mine = np.isin(at, np.flatnonzero(here.ravel()))
        np.testing.assert_array_equal(part.label[used][mine][np.argsort(at[mine])], target)
        if part.source is not None:
            there = (part.source.records == name) & (part.source.segments > 0)
            np.testing.assert_array_equal(part.source.tokens[there], [*prompt, 0])
            assert {*np.nonzero(there)[0]} == {*np.nonzero(here)[0]}
        found.append(record)
    return found


def test_token_batches_divide_evenly() -> None:
    lengths = part_lengths(TABLE, "decoder")
    budget, most = TokenBudget.of(lengths, tokens=8 * 32, row_length=32)
    trial = TrialData(np.arange(40), 1, most, budget)
    planner = Planner.for_trials(TABLE, [trial], width=16, microbatches=4)
    for step in range(trial.steps_in(0) - 1):
        planned, shape = planner.batch(trial.at(step))
        assert shape.rows == 8
        held = planned.record >= 0
        labels = np.bincount(planned.row[held] % 4, TABLE.label_lengths[planned.record[held]], 4)
        assert labels.max() <= labels.mean() + 32
        assert 4 * labels.max() <= shape.labels
