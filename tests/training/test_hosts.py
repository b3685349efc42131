"""One, two or four hosts feed the same global batch: each its share of the rows, every record exactly once."""

from __future__ import annotations

import collections
import itertools
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftcot_jax.records.batch import PackedBatch, PairTokens, Rows, assemble, assemble_pairs, device_table
from ftcot_jax.records.plan import Planner, TokenBudget, TrialData
from ftcot_jax.records.sizes import part_lengths
from ftcot_jax.records.table import RecordTable
from ftcot_jax.training.mesh import batch_sharding, make_mesh
from ftcot_jax.training.settings import MeshSettings
from tests.records.test_sharing import make_shared_table

HOSTS = (1, 2, 4)
KINDS = st.sampled_from(["decoder", "encoder_decoder"])


def make_trial(table: RecordTable, kind: Any, tokens: int | None, seed: int) -> TrialData:
    records = np.arange(len(table))
    if tokens is None:
        return TrialData(records, seed, 7)
    budget, most = TokenBudget.of(part_lengths(table, kind), tokens, 64)
    return TrialData(records, seed, most, budget)


@given(seed=st.integers(0, 500), kind=KINDS, share=st.booleans(), tokens=st.sampled_from([None, 128, 320]))
@settings(max_examples=40, deadline=None)
def test_the_hosts_rows_hold_the_same_global_batch(seed: int, kind: Any, share: bool, tokens: int | None) -> None:
    table = make_shared_table(seed, questions=10, most=6)
    trial = make_trial(table, kind, tokens, seed)
    planners = [
        Planner.for_trials(table, [trial], width=16, kind=kind, row_multiple=hosts, share_questions=share)
        for hosts in HOSTS
    ]
    seen: collections.Counter[int] = collections.Counter()
    for step in range(trial.steps_in(0)):
        batches = []
        for hosts, planner in zip(HOSTS, planners, strict=True):
            planned, shape = planner.batch(trial.at(step))
            assert shape.rows % hosts == 0
            host_B = planned.row // (shape.rows // hosts)
            real_B = planned.record >= 0
            fed = [planned.record[real_B & (host_B == host)].tolist() for host in range(hosts)]
            batches.append(collections.Counter(itertools.chain(*fed)))
        assert batches[0] == batches[1] == batches[2] == collections.Counter(trial.at(step).tolist())
        seen += batches[0]
    assert seen == collections.Counter(range(len(table)))


def texts_of(text: Rows, source: Rows | None) -> list[tuple[int, ...]]:
    """Every record that these rows hold, put together from what its tokens are marked with."""
    found = []
    for row in range(len(text.tokens)):
        for segment in np.unique(text.segments[row]):
            own = text.segments[row] == segment
            if segment == 0 or (text.reads is not None and source is None and (text.reads[row][own] == segment).all()):
                continue  # padding, or a question
            asked = own & False
            if source is not None:
                read = segment if text.reads is None else text.reads[row][own][0]
                prompt = source.tokens[row][source.segments[row] == read]
            else:
                asked = asked if text.reads is None else text.segments[row] == text.reads[row][own][0]
                prompt = text.tokens[row][asked]
            found.append((*prompt.tolist(), *text.tokens[row][own].tolist()))
    return found


@pytest.mark.parametrize("kind", ["decoder", "encoder_decoder"])
@pytest.mark.parametrize("share", [False, True])
def test_what_hosts_hold_is_the_batch(kind: Any, share: bool) -> None:
    """The batch lies over four devices along the data axis, of which a host has four, two or one."""
    table = make_shared_table(2, questions=8, most=5)
    trial = TrialData(np.arange(len(table)), 1, 14)
    planner = Planner.for_trials(table, [trial], width=16, kind=kind, row_multiple=4, share_questions=share)
    mesh = make_mesh(MeshSettings(data=4))
    planned, shape = planner.batch(trial.at(0))
    start, end = 60, 61

    def build(planned: Any) -> PackedBatch:
        if kind == "decoder":
            return assemble(device_table(table), planned, shape)
        return assemble_pairs(device_table(table), planned, shape, PairTokens(start, end))

    def of_slots(planned: Any) -> Any:
        batch = jax.tree.map(lambda leaf: leaf[None, None], build(planned))  # of one slot, in one microbatch
        return jax.lax.with_sharding_constraint((batch.text, batch.source), batch_sharding(mesh))

    placed = jax.jit(of_slots)(planned)
    expected = []
    for record in trial.at(0):
        prompt, label = np.split(table.record(record), [table.prompt_lengths[record]])
        pair = (*prompt, end, start, *label[:-1])
        expected.append(tuple(map(int, table.record(record) if kind == "decoder" else pair)))
    for hosts in HOSTS:
        per_host = []
        for devices in np.split(mesh.devices.ravel(), hosts):

            def held(leaf: jax.Array, devices: Any = devices) -> np.ndarray:
                mine = [shard for shard in leaf.addressable_shards if shard.device in set(devices)]
                mine.sort(key=lambda shard: shard.index[2].start or 0)
                return np.concatenate([np.asarray(shard.data)[0, 0] for shard in mine])

            text, source = jax.tree.map(held, placed)
            assert len(text.tokens) == shape.rows // hosts
            per_host.append(texts_of(text, source))
        assert all(len(texts) < len(expected) for texts in per_host) or hosts == 1
        assert sorted(itertools.chain(*per_host)) == sorted(expected)
