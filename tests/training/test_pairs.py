"""Encoder-decoders train: a packed batch gives the padded one's loss and gradient; the whole road runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ftcot_jax.records.batch import PackedBatch, PairTokens, assemble_pairs, device_table
from ftcot_jax.records.plan import Planner, TrialData
from ftcot_jax.records.table import RecordTable
from ftcot_jax.students.dropout import dropout_seed
from ftcot_jax.students.load import load_student
from ftcot_jax.students.settings import StudentSettings
from ftcot_jax.students.student import Student
from ftcot_jax.training.step import batch_loss
from tests.training.tiny import make_records

FIELDS = {"model_type": "t5", "d_model": 20, "d_kv": 7, "d_ff": 30, "num_layers": 1, "num_decoder_layers": 1}


@pytest.fixture(scope="module")
def student() -> Student:
    words = [f"word{number}" for number in range(60)]
    return load_student(StudentSettings(scratch=FIELDS | {"num_heads": 3, "dropout_rate": 0.3}), words)


def padded_loss(student: Student, params: Any, table: RecordTable, records: np.ndarray) -> jax.Array:
    """The reference: each pair on rows of its own, padded; mean cross-entropy over label tokens."""
    widths = int(table.prompt_lengths[records].max()) + 1, int(table.label_lengths[records].max())
    source, source_on = (np.zeros((len(records), widths[0]), int) for _ in range(2))
    read, label, on = (np.zeros((len(records), widths[1]), int) for _ in range(3))
    for row, record in enumerate(records):
        prompt, target = np.split(table.record(record), [table.prompt_lengths[record]])
        source[row, : len(prompt) + 1], source_on[row, : len(prompt) + 1] = [*prompt, student.eos_id], 1
        read[row, : len(target)], label[row, : len(target)] = [student.start_id, *target[:-1]], target
        on[row, : len(target)] = 1
    places = [np.broadcast_to(np.arange(width), (len(records), width)) for width in widths]
    encoded = student.source_hidden(params, source, source_on, places[0])
    h = student.target_hidden(params, encoded, source_on, places[0], read, on, places[1])
    log_probability = jax.nn.log_softmax(h @ student.head(params).T)
    return -(jnp.take_along_axis(log_probability, label[..., None], axis=2)[..., 0] * on).sum() / on.sum()


build = jax.jit(assemble_pairs, static_argnames=("shape", "around"))


def pack(student: Student, table: RecordTable, records: np.ndarray, width: int = 16) -> PackedBatch:
    trial = TrialData(records, seed=1, batch_examples=len(records))
    planner = Planner.for_trials(table, [trial], width=width, kind=student.kind)
    planned, shape = planner.batch(records)
    assert planned.row.max() + 1 < len(records)  # some rows hold more than one
    return build(device_table(table), planned, shape, PairTokens(student.start_id, student.eos_id))


def test_packed_loss_and_gradient_equal_the_padded_ones(student: Student) -> None:
    table, params = make_records(11), student.init(jax.random.key(0))
    records = np.random.default_rng(0).permutation(11)
    batch = pack(student, table, records)
    ours = jax.jit(jax.value_and_grad(lambda p: batch_loss(student, p, batch)))(params)
    padded = jax.jit(jax.value_and_grad(lambda p: padded_loss(student, p, table, records)))(params)
    assert float(padded[0]) > 1
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), ours, padded)


def test_dropout_is_of_the_record_not_of_its_place(student: Student) -> None:
    table, params = make_records(11), student.init(jax.random.key(0))
    dropped = jax.jit(lambda batch, seed: batch_loss(student, params, batch, seed))
    batch, other = pack(student, table, np.arange(11)), pack(student, table, np.arange(11)[::-1], width=500)
    assert batch.text.tokens.shape != other.text.tokens.shape  # rows of another length, for which width decides
    loss = float(dropped(batch, dropout_seed(3, 7)))
    assert float(dropped(other, dropout_seed(3, 7))) == pytest.approx(loss, abs=1e-4)
    assert abs(float(dropped(batch, dropout_seed(3, 8))) - loss) > 1e-3


@pytest.mark.slow
def test_a_small_t5_runs_the_whole_road_and_learns(tmp_path: Path) -> None:
    recipe = {
        "name": "t5",
        "task": {"key": "weekday_tracking", "train_questions": 40, "test_questions": 8},
        "teacher": {"loopback": "weekday_tracking", "diversity": 2},
        "student": {"scratch": FIELDS | {"num_heads": 2, "d_model": 24, "tie_word_embeddings": False}},
        "train": {"steps": 60, "batch": {"examples": 4}, "learning_rate": 1e-2, "slots": 2},
        "evaluate": {"max_length": 40},
        "sweep": {"axes": [{"seed": [1, 2]}]},
    }
    (tmp_path / "t5.yaml").write_text(json.dumps(recipe))
    command = "from ftcot_jax.cli import main; main()"
    run = subprocess.run(
        [sys.executable, "-c", command, "run", str(tmp_path / "t5.yaml"), "--out", str(tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    trials = json.loads((tmp_path / "out" / "report" / "trials.json").read_text())
    assert len(trials) == 2
    for trial in trials:
        assert trial["training"]["loss_last"] < 0.6 * trial["training"]["loss_first"]
    saved = next((tmp_path / "out" / "artifacts").glob("student-*/student"))
    assert load_student(StudentSettings(checkpoint=str(saved))).kind == "encoder_decoder"
