"""The batch built on the device holds the records of the plan, token for token."""

from __future__ import annotations

import jax
import numpy as np

from ftcot_jax.records.batch import PairTokens, assemble, assemble_pairs, device_table
from ftcot_jax.records.plan import Planner, TrialData
from tests.records.test_plan import make_table


def test_rows_hold_the_planned_records_and_nothing_else() -> None:
    table = make_table(np.random.default_rng(5), count=20)
    trial = TrialData(np.arange(20), seed=0, batch_examples=6)
    planner = Planner.for_trials(table, [trial], width=16)
    for step in range(trial.steps_in(0)):
        records = trial.at(step)
        planned, shape = planner.batch(records)
        batch = assemble(device_table(table), planned, shape)
        tokens, segments, positions, names = (np.asarray(part) for part in batch.text[:4])
        assert tokens.shape == (shape.rows, shape.length)
        expected_labels = []
        for place, record in enumerate(records):
            row, start, length = planned.row[place], int(planned.start[place, 0]), table.lengths[record]
            inside = slice(start, start + length)
            np.testing.assert_array_equal(tokens[row, inside], table.record(record))
            np.testing.assert_array_equal(segments[row, inside], place + 1)
            np.testing.assert_array_equal(positions[row, inside], np.arange(length))
            name = table.sample_index[record] * 1024 + table.completion_index[record]
            np.testing.assert_array_equal(names[row, inside], name)
            expected_labels += list(table.record(record)[table.prompt_lengths[record] :])
        assert (segments > 0).sum() == table.lengths[records].sum()
        count = int(batch.label_weight.sum())
        assert count == table.label_lengths[records].sum()
        np.testing.assert_array_equal(batch.label[:count], expected_labels)
        np.testing.assert_array_equal(batch.label_weight, np.arange(shape.labels) < count)
        # the label is the token after the position it is predicted from, in the same record
        flat_tokens, flat_segments = tokens.ravel(), segments.ravel()
        at = np.asarray(batch.label_at)[:count]
        np.testing.assert_array_equal(flat_tokens[at + 1], expected_labels)
        np.testing.assert_array_equal(flat_segments[at + 1], flat_segments[at])


def test_an_empty_batch_has_no_tokens_and_no_labels() -> None:
    table = make_table(np.random.default_rng(5), count=4)
    planner = Planner.for_trials(table, [TrialData(np.arange(4), seed=0, batch_examples=4)], width=16)
    planned, shape = planner.batch(np.zeros(0, int))
    batch = assemble(device_table(table), planned, shape)
    assert int((batch.text.segments > 0).sum()) == 0
    assert float(batch.label_weight.sum()) == 0


def test_rows_of_pairs_hold_sources_and_targets_under_one_segment() -> None:
    table = make_table(np.random.default_rng(5), count=20)
    trial = TrialData(np.arange(20), seed=0, batch_examples=6)
    planner = Planner.for_trials(table, [trial], width=16, kind="encoder_decoder")
    start, end = 70, 71  # in no record
    build = jax.jit(assemble_pairs, static_argnames=("shape", "around"))
    for step in range(trial.steps_in(0)):
        records = trial.at(step)
        planned, shape = planner.batch(records)
        batch = build(device_table(table), planned, shape, PairTokens(start, end))
        assert batch.source is not None
        assert batch.source.tokens.shape == (shape.rows, shape.source_length)
        expected_labels = []
        for place, record in enumerate(records):
            prompt, label = np.split(table.record(record), [table.prompt_lengths[record]])
            expected_labels += list(label)
            name = table.sample_index[record] * 1024 + table.completion_index[record]
            for part, (rows, text) in enumerate([(batch.text, [start, *label[:-1]]), (batch.source, [*prompt, end])]):
                at = int(planned.start[place, part])
                inside = planned.row[place], slice(at, at + len(text))
                np.testing.assert_array_equal(rows.tokens[inside], text)
                np.testing.assert_array_equal(rows.segments[inside], place + 1)
                np.testing.assert_array_equal(rows.positions[inside], np.arange(len(text)))
                np.testing.assert_array_equal(rows.records[inside], name)
                assert int((rows.segments == place + 1).sum()) == len(text)
        count = int(batch.label_weight.sum())
        np.testing.assert_array_equal(batch.label[:count], expected_labels)
        inputs = np.asarray(batch.text.tokens).ravel()[np.asarray(batch.label_at)[:count]]
        np.testing.assert_array_equal(
            inputs[1:][inputs[1:] != start], np.array(expected_labels)[:-1][inputs[1:] != start]
        )
        assert (np.asarray(batch.text.segments) > 0).sum() == count
