"""A batch that shares its questions gives the loss and the gradients of one that does not, for every family."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from ftcot_jax.errors import UsageError
from ftcot_jax.records.batch import PackedBatch, PairTokens, assemble, assemble_pairs, device_table
from ftcot_jax.records.microbatch import divide
from ftcot_jax.records.plan import Planner, TrialData
from ftcot_jax.records.table import RecordTable
from ftcot_jax.students.dropout import dropout_seed
from ftcot_jax.students.fused_attention import require_shared
from ftcot_jax.students.load import load_student
from ftcot_jax.students.settings import StudentSettings
from ftcot_jax.students.student import Student
from ftcot_jax.training.step import batch_loss
from tests.records.test_sharing import make_shared_table

FIELDS = {
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64, "resid_pdrop": 0.3, "attn_pdrop": 0.3},
    "llama": {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
    | {"num_key_value_heads": 2, "max_position_embeddings": 64},
    "t5": {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2, "dropout_rate": 0.3},
}
TABLE = make_shared_table(3, questions=5, most=6)
RECORDS = np.random.default_rng(0).permutation(len(TABLE))[:12]


def make_student(family: str) -> Student:
    words = [f"word{number}" for number in range(60)]
    return load_student(StudentSettings(scratch={"model_type": family} | FIELDS[family]), words)


def pack(student: Student, table: RecordTable, records: np.ndarray, share: bool) -> PackedBatch:
    trial = TrialData(records, seed=1, batch_examples=len(records))
    planner = Planner.for_trials(table, [trial], width=16, kind=student.kind, share_questions=share)
    planned, shape = planner.batch(records)
    assert shape.shared == share
    if student.kind == "decoder":
        return jax.jit(assemble, static_argnames="shape")(device_table(table), planned, shape=shape)
    around = PairTokens(student.start_id, student.eos_id)
    build = jax.jit(assemble_pairs, static_argnames=("shape", "around"))
    return build(device_table(table), planned, shape=shape, around=around)


def computed(batch: PackedBatch) -> int:
    return sum(int((rows.segments > 0).sum()) for rows in (batch.text, batch.source) if rows is not None)


@pytest.mark.parametrize("family", FIELDS)
def test_loss_and_gradients_equal_those_without_sharing(family: str) -> None:
    student = make_student(family)
    params = student.init(jax.random.key(0))
    loss_of = jax.jit(jax.value_and_grad(lambda p, batch: batch_loss(student, p, batch)))
    alone, shared = (pack(student, TABLE, RECORDS, share) for share in (False, True))
    assert computed(shared) < computed(alone)
    ours, plain = loss_of(params, shared), loss_of(params, alone)
    assert float(plain[0]) > 1
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), ours, plain)


def test_microbatches_of_shared_questions_add_up() -> None:
    student = make_student("gpt2")
    params = student.init(jax.random.key(0))
    trial = TrialData(RECORDS, seed=1, batch_examples=len(RECORDS))
    planner = Planner.for_trials(TABLE, [trial], width=16, share_questions=True, microbatches=2)
    planned, shape = planner.batch(RECORDS)
    whole = jax.jit(assemble, static_argnames="shape")(device_table(TABLE), planned, shape=shape)
    parts = divide(whole, 2)
    loss_of = jax.jit(lambda batch: batch_loss(student, params, batch))
    losses = [float(loss_of(jax.tree.map(lambda leaf, n=n: leaf[n], parts))) for n in range(2)]
    labels = parts.label_weight.sum(1)
    assert labels.min() > 0
    assert float(loss_of(whole)) == pytest.approx(float(np.average(losses, weights=labels)), abs=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_a_shared_question_draws_its_noise_whoever_shares_it(family: str) -> None:
    """Two rationales in one batch, or each in its own: the question's noise, and so the mean loss, are the same."""
    student = make_student(family)
    params = student.init(jax.random.key(0))
    number = TABLE.questions()
    both = np.flatnonzero(number == number[RECORDS[0]])[:2]
    assert len(both) == 2
    loss_of: Any = jax.jit(lambda batch, seed: batch_loss(student, params, batch, seed))
    seed = dropout_seed(3, 7)
    together = float(loss_of(pack(student, TABLE, both, True), seed))
    labels = TABLE.label_lengths[both]
    apart = [float(loss_of(pack(student, TABLE, both[n : n + 1], True), seed)) for n in range(2)]
    assert together == pytest.approx(float(np.average(apart, weights=labels)), abs=1e-5)
    assert abs(together - float(loss_of(pack(student, TABLE, both, True), dropout_seed(3, 8)))) > 1e-4


def test_splash_attention_refuses_to_share() -> None:
    with pytest.raises(UsageError, match="share_questions: splash attention keeps segments wholly apart"):
        require_shared("splash", True)
    require_shared("splash", False)
    require_shared("cudnn", True)
