"""Batch shapes: every batch fits one, the cheapest is taken, and few are compiled."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftcot_jax.records.plan import Planner, TrialData
from ftcot_jax.records.shapes import SHAPES
from ftcot_jax.records.table import RecordTable
from tests.records.test_plan import make_table


def table_of(lengths: list[int]) -> RecordTable:
    """Records of these lengths, half of each the label."""
    sizes, count = np.array(lengths, np.int32), len(lengths)
    return RecordTable.of(
        np.ones(sizes.sum(), np.int32), sizes, sizes // 2, np.arange(count), np.zeros(count, int), np.ones(count, bool)
    )


def spread_lengths(count: int, seed: int) -> list[int]:
    return np.random.default_rng(seed).lognormal(4.6, 0.5, count).clip(16, 800).astype(int).tolist()


def one_length(table: RecordTable, trial: TrialData) -> float:
    """Share of places that hold a token in the best one row length, as many rows of it as a batch needs."""
    planner = Planner.for_trials(table, [trial], width=10_000)  # so wide that attention costs nothing
    rooms = {shape.room for shape in planner.shapes} | {(length,) for length in range(800, 3200, 100)}
    batches = [trial.at(step) for step in range(trial.steps_in(0))]
    places = [sum(planner.sizes.pack(batch, room).rows for batch in batches) * room[0] for room in rooms]
    return float(table.lengths.sum() / min(places))


def test_a_row_length_between_two_multiples_of_the_longest_is_found() -> None:
    """Of records of 100 tokens and one of 170, rows of 176 hold one, of 352 three: others hold them without a gap."""
    table, trial = table_of([100] * 63 + [170]), TrialData(np.arange(64), 0, 8)
    planner = Planner.for_trials(table, [trial], width=768)
    assert planner.shapes[0].length % 176 != 0
    assert planner.efficiency(trial).filled > 0.95


def test_row_lengths_of_their_own_hold_more_than_the_best_one() -> None:
    """Chosen for one epoch; the next, which was not seen, is held as well."""
    table, trial = table_of(spread_lengths(800, 0)), TrialData(np.arange(800), 1, 8)
    planner = Planner.for_trials(table, [trial], width=768)
    assert len({shape.length for shape in planner.shapes[:-1]}) > 1
    assert planner.efficiency(trial).filled > 1.08 * one_length(table, trial)
    later = [trial.at(step) for step in range(100, 200)]
    shapes = [planner.batch(batch)[1] for batch in later]
    assert sum(table.lengths[batch].sum() for batch in later) > 0.8 * sum(s.rows * s.length for s in shapes)
    assert planner.shapes[-1] not in shapes


def test_slots_share_a_shape_that_is_chosen_for_all_of_them() -> None:
    table = table_of(spread_lengths(400, 2))
    trials = [TrialData(np.arange(400), seed, 8) for seed in range(8)]

    def filled(slots: int) -> float:
        planner = Planner.for_trials(table, trials, width=768, slots=slots)
        used = []
        for step in range(50):
            batches = [planner.batches(trial.at(step)) for trial in trials]
            shape = planner.common(batches)
            packed, same = planner.together([trial.at(step) for trial in trials])
            assert same == shape
            for one, other in zip(packed, batches, strict=True):
                assert all(map(np.array_equal, one, other[shape]))
            cheaper = planner.shapes[: planner.shapes.index(shape)]
            assert all(any(other not in one for one in batches) for other in cheaper)
            used.append(8 * shape.rows * shape.length)
        return 8 * float(table.lengths.sum()) / sum(used)

    assert filled(8) > 1.05 * filled(1)


def test_records_of_one_length_have_one_shape() -> None:
    table, trial = table_of([64] * 80), TrialData(np.arange(80), 0, 8)
    planner = Planner.for_trials(table, [trial], width=768)
    assert {planner.batch(trial.at(step))[1] for step in range(20)} == {planner.shapes[0]}
    assert planner.efficiency(trial).filled == 1


@given(
    seed=st.integers(0, 1000),
    batch=st.integers(1, 9),
    multiple=st.sampled_from([1, 2, 4]),
    microbatches=st.sampled_from([1, 2]),
    pairs=st.booleans(),
    share=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_every_shape_has_room_for_the_batches_it_is_given(
    seed: int, batch: int, multiple: int, microbatches: int, pairs: bool, share: bool
) -> None:
    table = make_table(np.random.default_rng(seed), count=40)
    trials = [TrialData(np.arange(40), seed, batch), TrialData(np.arange(5, 12), seed + 1, batch)]
    planner = Planner.for_trials(
        table,
        trials,
        width=16,
        slots=2,
        kind="encoder_decoder" if pairs else "decoder",
        row_multiple=multiple,
        microbatches=microbatches,
        share_questions=share,
    )
    assert len(planner.shapes) <= SHAPES + 2
    for shape in planner.shapes:
        assert shape.rows % (multiple * microbatches) == 0
        assert shape.labels % (64 * microbatches) == 0
    for trial in trials:
        for step in range(3 * trial.steps_in(0)):
            records = trial.at(step)
            batches = planner.batches(records)
            assert planner.shapes[-1] in batches, "the last is the worst case"
            assert planner.batch(records)[1] == next(iter(batches))
            for shape, planned in batches.items():
                assert list(planned.record) == [*records, *[-1] * (shape.examples - len(records))]
                assert planned.row.max() < shape.rows
                assert planned.start.max() < max(shape.room)
                assert table.label_lengths[records].sum() <= shape.labels


@pytest.mark.parametrize("pairs", [False, True])
def test_an_empty_batch_fits_every_shape(pairs: bool) -> None:
    table = make_table(np.random.default_rng(0), count=40)
    kind = "encoder_decoder" if pairs else "decoder"
    planner = Planner.for_trials(table, [TrialData(np.arange(40), 0, 8)], width=16, kind=kind)
    assert tuple(planner.batches(np.zeros(0, int))) == planner.shapes
