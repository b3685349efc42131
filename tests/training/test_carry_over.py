"""Results carry over: fifty steps on the paper's rationales give the losses of the padded PyTorch reference.

Plain pytest compares with stored losses; ``-m parity`` makes them again from the upstream completions.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from ftcot_jax.records.batch import device_table, stack_batches
from ftcot_jax.records.plan import Planner, TrialData
from ftcot_jax.records.table import RecordTable
from ftcot_jax.students.student import Student
from ftcot_jax.training.mesh import make_mesh
from ftcot_jax.training.optimizer import Hyper
from ftcot_jax.training.settings import MeshSettings, TrainSettings
from ftcot_jax.training.slots import empty_slots, refill
from ftcot_jax.training.step import make_train_step, new_state
from tests.training.carry_over import (
    BATCH,
    CASES,
    STEPS,
    compute,
    multiarith,
    read_golden,
    write_initial,
)

PARITY = 1e-3


class CountingPads:
    """A decoder whose positions count from the first pad of the reference's rows, as its training's do."""

    def __init__(self, student: Student, longest: int) -> None:
        self._student, self._longest = student, longest

    def __getattr__(self, name: str) -> Any:
        return getattr(self._student, name)

    def hidden(
        self, params: Any, tokens: jax.Array, segments: jax.Array, positions: jax.Array, reads_RxL: Any, dropout: Any
    ) -> Any:
        length_RxL = (segments[:, :, None] == segments[:, None]).sum(-1)
        shifted = jax.numpy.where(segments > 0, positions + self._longest - length_RxL, 0)
        return self._student.hidden(params, tokens, segments, shifted, reads_RxL, dropout)


def our_losses(student: Any, table: RecordTable, shapes: int = 9) -> tuple[np.ndarray, float]:
    """Trains packed, by the train step; returns each step's loss, and the share of room that holds tokens.

    Args:
      student: read from a checkpoint.
      table: the records.
      shapes: how many of the batch shapes are used, the dearest; each takes seconds to compile.
    """
    params = student.load()
    trial = TrialData(np.arange(len(table)), seed=0, batch_examples=BATCH)
    planner = Planner.for_trials(table, [trial], width=student.head(params).shape[1], kind=student.kind)
    planner = dataclasses.replace(planner, shapes=planner.shapes[-shapes:])
    mesh = make_mesh(MeshSettings())
    one = new_state(params, Hyper.of(TrainSettings(), STEPS))
    state = refill(empty_slots(one, 1, mesh, ()), 0, one)
    step, losses, room, used = make_train_step(student, mesh, "map"), [], 0, 0.0
    on_device = device_table(table)
    for numbers in (trial.at(number) for number in range(STEPS)):
        batch, shape = planner.batch(numbers)
        state, metrics = step(state, on_device, stack_batches([batch]), shape)
        losses.append(float(metrics.loss[0]))
        used, room = used + float(metrics.tokens[0]), room + shape.rows * (shape.length + shape.source_length)
    return np.array(losses), used / room


def differences(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    assert len(ours) == len(theirs) == STEPS
    assert theirs[:5].mean() - theirs[-5:].mean() > 1  # something was learned
    return np.abs(ours - theirs)


# The encoder-decoder takes twice as long to compile; tests/training/test_pairs.py holds its packing in the fast suite.
@pytest.mark.parametrize("case", ["gpt2", pytest.param("t5", marks=pytest.mark.slow)])
def test_fifty_packed_steps_equal_the_stored_reference(case: str, tmp_path: Path) -> None:
    records, golden = read_golden(case)
    ours, _ = our_losses(write_initial(case, records, tmp_path), records.table, shapes=1)
    assert differences(ours, golden["losses"]).max() < PARITY


@pytest.mark.slow
def test_positions_that_count_pads_are_all_that_differs_from_the_reference_as_it_is(tmp_path: Path) -> None:
    """The reference's GPT-2 numbers positions from the first pad. Numbered so, ours gives its losses as well."""
    records, golden = read_golden("gpt2")
    student = CountingPads(write_initial("gpt2", records, tmp_path), int(records.table.lengths.max()))
    ours, _ = our_losses(student, records.table)
    assert differences(ours, golden["losses_counting_pads"]).max() < PARITY
    assert differences(golden["losses"], golden["losses_counting_pads"]).max() > PARITY


@pytest.mark.parity
@pytest.mark.parametrize("case", CASES)
def test_fifty_packed_steps_equal_the_reference_live(case: str, shared: Path, tmp_path: Path) -> None:
    records, (stored, golden) = multiarith(shared, CASES[case]["tokenizer"]), read_golden(case)
    for ours, theirs in zip(records, stored, strict=True):
        np.testing.assert_array_equal(ours, theirs)  # the golden's records are the upstream rationales
    live = compute(case, records)
    for name, losses in live.items():
        np.testing.assert_allclose(losses, golden[name], atol=PARITY / 10, err_msg=name)
    ours, share = our_losses(write_initial(case, records, tmp_path), records.table)
    assert differences(ours, live["losses"]).max() < PARITY
    assert share > 0.65  # of the reference's padded rows, 0.60 (GPT-2) and 0.56 (T5) hold tokens
