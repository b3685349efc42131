"""Dropout in the step depends on trial, step and record, not on where a record is packed."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from ftcot_jax.records.batch import assemble, device_table
from ftcot_jax.records.plan import Planner, TrialData
from ftcot_jax.records.table import RecordTable
from ftcot_jax.students.dropout import dropout_seed
from ftcot_jax.students.load import load_student
from ftcot_jax.students.settings import StudentSettings
from ftcot_jax.students.student import Student
from ftcot_jax.training.step import batch_loss
from tests.training.tiny import make_records


@pytest.fixture(scope="module")
def student() -> Student:
    fields = {"model_type": "gpt2", "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64, "resid_pdrop": 0.3}
    words = [f"word{number}" for number in range(60)]
    return load_student(StudentSettings(scratch=fields), words)


def loss(student: Student, table: RecordTable, records: np.ndarray, seed: jax.Array | None) -> float:
    planner = Planner.for_trials(table, [TrialData(records, 0, len(records))], width=16)
    planned, shape = planner.batch(records)
    batch = assemble(device_table(table), planned, shape)
    return float(batch_loss(student, student.init(jax.random.key(0)), batch, seed))


def test_the_same_records_packed_otherwise_drop_the_same(student: Student) -> None:
    table = make_records(12)
    records = np.arange(12)
    with_dropout = loss(student, table, records, dropout_seed(3, 7))
    assert loss(student, table, records[::-1], dropout_seed(3, 7)) == pytest.approx(with_dropout, abs=1e-5)
    joined = RecordTable.join([make_records(5, seed=9), table])  # other trials' records before ours
    assert loss(student, joined, records + 5, dropout_seed(3, 7)) == pytest.approx(with_dropout, abs=1e-5)
    assert abs(loss(student, table, records, None) - with_dropout) > 1e-4
    for other in (dropout_seed(3, 8), dropout_seed(4, 7)):
        assert abs(loss(student, table, records, other) - with_dropout) > 1e-4
    renamed = dataclasses.replace(table, sample_index=table.sample_index + 100)
    assert abs(loss(student, renamed, records, dropout_seed(3, 7)) - with_dropout) > 1e-4
