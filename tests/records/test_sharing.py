"""Questions that rationales share: packed once a row, apart from all else, and built so on the device."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftcot_jax.records.batch import PairTokens, assemble, assemble_pairs, device_table
from ftcot_jax.records.packing import pack, pack_questions
from ftcot_jax.records.plan import Planner, TokenBudget, TrialData
from ftcot_jax.records.sizes import Sizes, part_lengths
from ftcot_jax.records.table import RecordTable


def make_shared_table(seed: int, questions: int, most: int) -> RecordTable:
    """Up to `most` rationales of each question; two questions may have prompts of one length."""
    rng = np.random.default_rng(seed)
    rows = []
    for question in range(questions):
        prompt = [question + 1, *rng.integers(1, 50, rng.integers(1, 12))]
        rows += [
            {
                "input_ids": prompt,
                "label_ids": rng.integers(1, 50, rng.integers(1, 16)),
                "sample_index": question,
                "completion_index": completion,
                "correct": True,
            }
            for completion in range(rng.integers(1, most + 1))
        ]
    return RecordTable.from_rows(rows)


@given(
    records=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 20)), min_size=1, max_size=40),
    prompts=st.lists(st.integers(1, 15), min_size=6, max_size=6),
    kind=st.sampled_from(["decoder", "encoder_decoder"]),
)
@settings(max_examples=150, deadline=None)
def test_every_records_tokens_lie_once_and_apart(records: list[tuple[int, int]], prompts: list[int], kind: str) -> None:
    question, own = (np.array(values) for values in zip(*records, strict=True))
    asked = np.array(prompts)[question]
    none = np.zeros_like(own)
    if kind == "decoder":
        room, parts = (40,), (own[:, None], asked[:, None])
    else:
        room, parts = (25, 30), (np.stack([own, none], 1), np.stack([none, asked], 1))
    packing = pack_questions(*parts, question, room)
    blocks = [np.zeros((packing.rows, length), int) for length in room]
    for number in range(len(records)):
        at = packing.start[number, 0]
        assert at + own[number] <= room[0]
        blocks[0][packing.row[number], at : at + own[number]] += 1
    copies = {(int(packing.row[n]), int(question[n])): int(packing.start[n, 1]) for n in range(len(records))}
    for number in range(len(records)):  # one copy a row, which all its records there read
        assert copies[int(packing.row[number]), int(question[number])] == packing.start[number, 1]
    for (row, number), at in copies.items():
        assert at + prompts[number] <= room[-1]
        blocks[-1][row, at : at + prompts[number]] += 1
    for filled in blocks:
        assert filled.max() == 1
    assert packing.tokens == sum(int(filled.sum()) for filled in blocks)
    if kind == "decoder":  # a question lies before its rationales
        assert (packing.start[:, 1] + asked <= packing.start[:, 0]).all()


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 10)), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_questions_of_one_record_pack_as_records_do(parts: list[tuple[int, int]]) -> None:
    own, asked = (np.array(values)[:, None] for values in zip(*parts, strict=True))
    ours, plain = pack_questions(own, asked, np.arange(len(parts)), (40,)), pack(own + asked, (40,))
    np.testing.assert_array_equal(ours.row, plain.row)
    np.testing.assert_array_equal(ours.start[:, 1:], plain.start)
    assert (ours.rows, ours.tokens) == (plain.rows, plain.tokens)


def test_sharing_is_given_up_where_it_takes_more_rows() -> None:
    """Of pairs, which the packing of questions does not match to each other by their proportions."""
    rng = np.random.default_rng(13)
    prompt, label = rng.integers(5, 30, 60), rng.integers(5, 30, 60)
    lengths, none = np.stack([label, prompt], 1), np.zeros(60, int)
    asked, question, room = np.stack([none, prompt], 1), np.arange(60), (120, 120)
    alone, shared = pack(lengths, room), pack_questions(lengths - asked, asked, question, room)
    assert shared.rows > alone.rows
    ours = Sizes(lengths, label, asked, question).pack(np.arange(60), room)
    np.testing.assert_array_equal(ours.start, alone.start)
    assert (ours.rows, ours.tokens) == (alone.rows, lengths.sum())


def test_a_question_too_long_for_a_row_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit a row of 8 tokens"):
        pack_questions(np.array([[3]]), np.array([[6]]), np.zeros(1, int), (8,))


def test_questions_are_told_apart_by_their_tokens() -> None:
    table = make_shared_table(0, questions=30, most=4)
    number = table.questions()
    assert len(set(number.tolist())) == 30
    for a in range(len(table)):
        for b in range(a):
            same = table.sample_index[a] == table.sample_index[b]
            assert (number[a] == number[b]) == same


@given(
    seed=st.integers(0, 200),
    kind=st.sampled_from(["decoder", "encoder_decoder"]),
    tokens=st.sampled_from([None, 128, 256]),
)
@settings(max_examples=30, deadline=None)
def test_the_plan_is_the_same_and_every_batch_fits(seed: int, kind: Any, tokens: int | None) -> None:
    table = make_shared_table(seed, questions=12, most=6)
    records = np.arange(len(table))
    trial = TrialData(records, seed, 7)
    if tokens is not None:
        budget, most = TokenBudget.of(part_lengths(table, kind), tokens, 64)
        trial = TrialData(records, seed, most, budget)
    alone, shared = (
        Planner.for_trials(table, [trial], width=16, kind=kind, share_questions=sharing) for sharing in (False, True)
    )
    seen = []
    for step in range(trial.steps_in(0)):
        planned, shape = shared.batch(trial.at(step))
        plain, _ = alone.batch(trial.at(step))
        np.testing.assert_array_equal(planned.record, plain.record)
        assert shape.shared
        assert planned.row.max() < shape.rows
        assert shape.labels >= table.label_lengths[trial.at(step)].sum()
        seen += planned.record[planned.record >= 0].tolist()
    assert sorted(seen) == records.tolist()  # exactly once an epoch
    ours, plain_efficiency = shared.efficiency(trial), alone.efficiency(trial)
    assert 0 <= ours.shared < 1
    assert plain_efficiency.shared == 0
    assert 0 < ours.filled <= 1


build = jax.jit(assemble, static_argnames="shape")
build_pairs = jax.jit(assemble_pairs, static_argnames=("shape", "around"))


def test_rows_hold_a_question_once_and_its_rationales_after_it() -> None:
    table = make_shared_table(3, questions=5, most=6)
    trial = TrialData(np.arange(len(table)), seed=0, batch_examples=12)
    planner = Planner.for_trials(table, [trial], width=16, share_questions=True)
    records = trial.at(0)
    planned, shape = planner.batch(records)
    batch = build(device_table(table), planned, shape=shape)
    tokens, segments, positions, names, reads = map(np.asarray, batch.text)
    question = table.questions()
    assert len(np.unique(question[records])) < len(records)
    expected_labels, expected_before = [], []
    copies = set()
    for place, record in enumerate(records):
        row, (own_at, asked_at) = planned.row[place], planned.start[place]
        asked, label = np.split(table.record(record), [table.prompt_lengths[record]])
        own, prompt = slice(own_at, own_at + len(label)), slice(asked_at, asked_at + len(asked))
        np.testing.assert_array_equal(tokens[row, prompt], asked)
        np.testing.assert_array_equal(tokens[row, own], label)
        np.testing.assert_array_equal(positions[row, prompt], np.arange(len(asked)))
        np.testing.assert_array_equal(positions[row, own], len(asked) + np.arange(len(label)))
        np.testing.assert_array_equal(segments[row, own], place + 1)
        (segment,) = set(segments[row, prompt].tolist())
        assert segment > len(planned.record)
        assert set(reads[row, own].tolist()) | set(reads[row, prompt].tolist()) == {segment}
        np.testing.assert_array_equal(
            names[row, own], table.sample_index[record] * 1024 + table.completion_index[record]
        )
        np.testing.assert_array_equal(names[row, prompt], table.sample_index[record] * 1024 + 1023)
        copies.add((int(row), int(segment)))
        expected_labels += label.tolist()
        expected_before += [asked[-1], *label[:-1]]
    held = sum(int((segments == segment)[row].sum()) for row, segment in copies)
    assert (segments > 0).sum() == held + table.label_lengths[records].sum()
    assert held < table.prompt_lengths[records].sum()
    count = int(batch.label_weight.sum())
    np.testing.assert_array_equal(np.asarray(batch.label)[:count], expected_labels)
    np.testing.assert_array_equal(tokens.ravel()[np.asarray(batch.label_at)[:count]], expected_before)


def test_several_targets_read_one_source() -> None:
    table = make_shared_table(3, questions=5, most=6)
    trial = TrialData(np.arange(len(table)), seed=0, batch_examples=12)
    planner = Planner.for_trials(table, [trial], width=16, kind="encoder_decoder", share_questions=True)
    records = trial.at(0)
    planned, shape = planner.batch(records)
    batch = build_pairs(device_table(table), planned, shape=shape, around=PairTokens(70, 71))
    assert batch.source is not None
    assert batch.text.reads is not None
    for place, record in enumerate(records):
        row, (own_at, asked_at) = planned.row[place], planned.start[place]
        asked, label = np.split(table.record(record), [table.prompt_lengths[record]])
        own, source = (row, slice(own_at, own_at + len(label))), (row, slice(asked_at, asked_at + len(asked) + 1))
        np.testing.assert_array_equal(batch.text.tokens[own], [70, *label[:-1]])
        np.testing.assert_array_equal(batch.source.tokens[source], [*asked, 71])
        np.testing.assert_array_equal(batch.source.positions[source], np.arange(len(asked) + 1))
        (segment,) = set(np.asarray(batch.source.segments[source]).tolist())
        assert set(np.asarray(batch.text.reads[own]).tolist()) == {segment}
        assert int((batch.source.segments[row] == segment).sum()) == len(asked) + 1
    computed = int((batch.source.segments > 0).sum())
    assert computed < (table.prompt_lengths[records] + 1).sum()
