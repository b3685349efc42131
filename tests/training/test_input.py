"""Records streamed a step at a time train as those on the device do, bit for bit, also after a resume."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftcot_jax.errors import Preempted, UsageError
from ftcot_jax.records.batch import PairTokens, assemble, assemble_pairs, device_table
from ftcot_jax.records.plan import Planner, TokenBudget, TrialData
from ftcot_jax.records.sizes import part_lengths
from ftcot_jax.records.table import RecordTable
from ftcot_jax.training.input import Fed, Resident, Streamed, make_input, where_to_keep
from ftcot_jax.training.mesh import make_mesh
from ftcot_jax.training.settings import MeshSettings
from tests.records.test_sharing import make_shared_table
from tests.training.test_pool import TABLE, Recorder, make_trials, run

build = jax.jit(assemble, static_argnames="shape")
build_pairs = jax.jit(assemble_pairs, static_argnames=("shape", "around"))


def assemble_slot(fed: Fed, slot: int, kind: str) -> Any:
    planned = jax.tree.map(lambda leaf: leaf[slot], fed.planned)
    if kind == "decoder":
        return build(fed.table, planned, shape=fed.shape)
    return build_pairs(fed.table, planned, shape=fed.shape, around=PairTokens(60, 61))


@pytest.mark.parametrize("kind", ["decoder", "encoder_decoder"])
@pytest.mark.parametrize("share", [False, True])
def test_both_inputs_feed_the_same_batches(kind: Any, share: bool) -> None:
    table = make_shared_table(1, questions=9, most=5)
    first = TrialData(np.arange(len(table)), 3, 5)
    trials = [first, TrialData(np.arange(4, len(table)), 4, 5)]
    planner = Planner.for_trials(table, trials, width=16, kind=kind, share_questions=share)
    planner = dataclasses.replace(planner, shapes=planner.shapes[-1:])  # one to compile
    inputs = [Resident(table, planner, 3, make_mesh(MeshSettings())), Streamed(table, planner, trials, 3)]
    for feeding in inputs:
        feeding.seat(0, trials[0], 2, 6)
        feeding.seat(2, trials[1], 0, 9)
    for step in range(8):
        if step == 4:  # the first trial has ended: its slot is empty, then taken by the other from the middle
            for feeding in inputs:
                feeding.leave(0)
        if step == 6:
            for feeding in inputs:
                feeding.seat(0, trials[1], 5, 9)
        fed = [feeding.next() for feeding in inputs]
        assert fed[0].examples == fed[1].examples
        assert len(fed[1].table.tokens) < len(table.tokens)
        for slot in range(3):
            ours, theirs = (assemble_slot(one, slot, kind) for one in fed)
            assert float(ours.label_weight.sum()) > 0 or fed[0].examples[slot] == 0
            jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    for feeding in inputs:
        feeding.close()


@given(seed=st.integers(0, 300), kind=st.sampled_from(["decoder", "encoder_decoder"]), tokens=st.booleans())
@settings(max_examples=25, deadline=None)
def test_every_streamed_table_holds_its_steps_records(seed: int, kind: Any, tokens: bool) -> None:
    table = make_shared_table(seed, questions=8, most=4)
    trial = TrialData(np.arange(len(table)), seed, 6)
    if tokens:
        budget, most = TokenBudget.of(part_lengths(table, kind), 128, 64)
        trial = TrialData(np.arange(len(table)), seed, most, budget)
    planner = Planner.for_trials(table, [trial], width=16, kind=kind, share_questions=bool(seed % 2))
    feeding = Streamed(table, planner, [trial], 2)
    feeding.seat(1, trial, 0, trial.steps_in(0))
    sizes = set()
    for step in range(trial.steps_in(0)):
        fed = feeding.next()
        sizes.add(jax.tree.map(np.shape, fed.table))
        records = trial.at(step)
        assert fed.examples == [0, len(records)]
        assert (fed.planned.record[0] == -1).all()
        for place, record in enumerate(records):
            number = fed.planned.record[1, place]
            at, length = fed.table.offset[number], fed.table.length[number]
            np.testing.assert_array_equal(fed.table.tokens[at : at + length], table.record(record))
            assert fed.table.prompt[number] == table.prompt_lengths[record]
    assert len(sizes) == 1  # so nothing recompiles
    feeding.close()


def test_streamed_training_is_bitwise_that_on_the_device(tmp_path: Path) -> None:
    """Four trials through two slots that are refilled; then the same stopped in the middle and resumed."""
    before = threading.active_count()
    resident = run(tmp_path / "device", Recorder(), make_trials(), input="device")
    streamed = run(tmp_path / "stream", Recorder(), make_trials(), input="stream")
    assert len(resident.done) == 4
    jax.tree.map(np.testing.assert_array_equal, resident.done, streamed.done)
    first = Recorder(stop_at=("trial1", 6))
    with pytest.raises(Preempted):
        run(tmp_path / "stopped", first, make_trials(), input="stream")
    left = [trial for trial in make_trials() if trial.key not in first.done]
    second = run(tmp_path / "stopped", Recorder(), left, input="stream")
    jax.tree.map(np.testing.assert_array_equal, resident.done, first.done | second.done)
    assert threading.active_count() <= before + 4  # no thread of a seat outlives its pool


def test_the_choice_follows_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    trial, mesh = make_trials()[0].data, make_mesh(MeshSettings())
    planner = Planner.for_trials(TABLE, [trial], width=16)

    def chosen(choice: Any, table: RecordTable = TABLE) -> type:
        return type(make_input(where_to_keep(choice, table, mesh), table, planner, [trial], 1, mesh))

    assert chosen("auto") is Resident
    assert chosen("stream") is Streamed
    monkeypatch.setattr("ftcot_jax.training.input._free_bytes", lambda _: 10 * TABLE.device_bytes - 1)
    assert chosen("auto") is Streamed
    assert chosen("device") is Resident
    monkeypatch.setattr("ftcot_jax.training.input._MOST_TOKENS", len(TABLE.tokens))
    with pytest.raises(UsageError, match=r"train\.input: a device numbers tokens up to \d+, and there are \d+; set"):
        chosen("device")
    assert chosen("auto") is Streamed


def test_a_step_that_cannot_be_read_is_an_error_in_the_loop() -> None:
    trial = make_trials()[0].data
    planner = Planner.for_trials(TABLE, [trial], width=16)
    short = dataclasses.replace(TABLE, offsets=TABLE.offsets + 10**6)
    feeding = Streamed(short, planner, [trial], 1)
    feeding.seat(0, trial, 0, 3)
    with pytest.raises(ValueError, match="broadcast"):
        feeding.next()
    feeding.close()


def test_device_table_and_streamed_one_have_the_same_types() -> None:
    trial = make_trials()[0].data
    feeding = Streamed(TABLE, Planner.for_trials(TABLE, [trial], width=16), [trial], 1)
    feeding.seat(0, trial, 0, 3)
    types = [[leaf.dtype for leaf in table] for table in (device_table(TABLE), feeding.next().table)]
    assert types[0] == types[1] == [np.int32] * 5
    feeding.close()
