"""Building a packed batch on the device from the record table and a plan of a few integers.

The host sends three integers a record; tokens never leave the device. Positions restart with every record
and segment ids keep records of one row apart, so the student computes what it would on padded rows.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ftcot_jax.records.packing import BatchShape
from ftcot_jax.records.plan import StepBatch
from ftcot_jax.records.table import RecordTable

_COMPLETIONS = 1024  # more than a teacher is asked for, so that names differ


class DeviceTable(NamedTuple):
    """The record table on the device, all int32: `tokens` (total,), the others (N,).

    `name` tells records apart whatever table they are in: made of the question and the completion.
    """

    tokens: jax.Array
    offset: jax.Array
    length: jax.Array
    prompt: jax.Array
    name: jax.Array


class PlannedBatch(NamedTuple):
    """A `StepBatch` as device arrays: `record`, `row`, `start`, each (B,) int32, or (S, B) for S slots."""

    record: jax.Array
    row: jax.Array
    start: jax.Array


class PackedBatch(NamedTuple):
    """A batch ready for the student.

    Attributes:
      tokens: (R, L) int32, 0 where padded.
      segments: (R, L) int32, 1 + the record's place in the batch; 0 where padded.
      positions: (R, L) int32, counted from each record's first token.
      records: (R, L) int32, the name of each token's record, the same in every packing.
      label_at: (M,) int32, flat position in R x L of the token *before* each label token.
      label: (M,) int32, the label token predicted there.
      label_weight: (M,) float32, 1 for a label token, 0 for unused room.
    """

    tokens: jax.Array
    segments: jax.Array
    positions: jax.Array
    records: jax.Array
    label_at: jax.Array
    label: jax.Array
    label_weight: jax.Array


def device_table(table: RecordTable) -> DeviceTable:
    """Copies what batches are built from to the default device.

    Raises:
      ValueError: the table has 2**31 tokens or more, beyond the device's int32 offsets.
    """
    if len(table.tokens) >= 2**31:
        raise ValueError(f"{len(table.tokens)} tokens do not fit one device table; split the record set")
    return DeviceTable(
        jnp.asarray(table.tokens),
        jnp.asarray(table.offsets.astype(np.int32)),
        jnp.asarray(table.lengths),
        jnp.asarray(table.prompt_lengths),
        jnp.asarray((table.sample_index * _COMPLETIONS + table.completion_index).astype(np.int32)),
    )


def stack_batches(batches: list[StepBatch]) -> PlannedBatch:
    """Stacks the S slots' batches into host arrays of shape (S, B)."""
    return PlannedBatch(
        np.stack([batch.record for batch in batches]),  # type: ignore[arg-type]
        np.stack([batch.row for batch in batches]),  # type: ignore[arg-type]
        np.stack([batch.start for batch in batches]),  # type: ignore[arg-type]
    )


def assemble(table: DeviceTable, planned: PlannedBatch, shape: BatchShape) -> PackedBatch:
    """Gathers one slot's packed batch; pure and traceable, `shape` is static.

    Args:
      table: the records on the device.
      planned: (B,) arrays.
      shape: R rows x L tokens with room for M labels.
    """
    present_B = planned.record >= 0
    record_B = jnp.maximum(planned.record, 0)
    at_L = jnp.arange(shape.length)
    within_BxL = (at_L[None] < table.length[record_B][:, None]) & present_B[:, None]
    source_BxL = jnp.where(within_BxL, table.offset[record_B][:, None] + at_L[None], 0)
    token_BxL = table.tokens[source_BxL]
    flat_BxL = (planned.row * shape.length + planned.start)[:, None] + at_L[None]

    size = shape.rows * shape.length
    into_BxL = jnp.where(within_BxL, flat_BxL, size)  # one past the end: dropped by the scatter

    def scatter(value_BxL: jax.Array) -> jax.Array:
        return jnp.zeros(size, jnp.int32).at[into_BxL].set(value_BxL, mode="drop").reshape(shape.rows, shape.length)

    segment_BxL = jnp.broadcast_to(jnp.arange(1, record_B.size + 1)[:, None], token_BxL.shape)

    labelled_BxL = within_BxL & (at_L[None] >= table.prompt[record_B][:, None])
    slot_BxL = jnp.where(labelled_BxL, jnp.cumsum(labelled_BxL.ravel()).reshape(labelled_BxL.shape) - 1, shape.labels)

    def collect(value_BxL: jax.Array) -> jax.Array:
        return jnp.zeros(shape.labels, jnp.int32).at[slot_BxL].set(value_BxL, mode="drop")

    return PackedBatch(
        tokens=scatter(token_BxL),
        segments=scatter(segment_BxL),
        positions=scatter(jnp.broadcast_to(at_L[None], token_BxL.shape)),
        records=scatter(jnp.broadcast_to(table.name[record_B][:, None], token_BxL.shape)),
        label_at=collect(flat_BxL - 1),
        label=collect(token_BxL),
        label_weight=(jnp.arange(shape.labels) < labelled_BxL.sum()).astype(jnp.float32),
    )
