"""Building a packed batch on the device from the record table and a plan of a few integers.

The host sends four integers a record; tokens never leave the device. Positions restart with every record
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


class Rows(NamedTuple):
    """Packed rows of tokens.

    Attributes:
      tokens: (R, L) int32, 0 where padded.
      segments: (R, L) int32, 1 + the record's place in the batch; 0 where padded.
      positions: (R, L) int32, counted from each record's first token.
      records: (R, L) int32, the name of each token's record, the same in every packing.
    """

    tokens: jax.Array
    segments: jax.Array
    positions: jax.Array
    records: jax.Array


class PackedBatch(NamedTuple):
    """A batch ready for the student.

    Attributes:
      text: what the decoder reads.
      source: what the encoder reads, a record under the same segment id in the same row; None for a decoder.
      label_at: (M,) int32, flat position in `text` of the token from which each label token is predicted.
      label: (M,) int32, the label token predicted there.
      label_weight: (M,) float32, 1 for a label token, 0 for unused room.
    """

    text: Rows
    source: Rows | None
    label_at: jax.Array
    label: jax.Array
    label_weight: jax.Array


class PairTokens(NamedTuple):
    """What an encoder-decoder has around a pair: the target begins with `start`, the source ends with `end`."""

    start: int
    end: int


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


def stack_batches(batches: list[StepBatch]) -> StepBatch:
    """Stacks the S slots' batches into host arrays with a leading slot axis."""
    return StepBatch(*(np.stack(parts) for parts in zip(*batches, strict=True)))


def assemble(table: DeviceTable, planned: StepBatch, shape: BatchShape) -> PackedBatch:
    """Gathers one slot's packed batch for a decoder, which reads prompt and label as one text.

    Pure and traceable; `shape` is static.

    Args:
      table: the records on the device.
      planned: (B,) records and their places.
      shape: R rows x L tokens with room for M labels.
    """
    part = _Part.of(table, planned, 0, table.length, shape.rows, shape.length)
    at_L = jnp.arange(shape.length)
    token_BxL = part.gather(table, at_L)
    labelled_BxL = part.within & (at_L >= part.per_record(table.prompt))
    return _with_labels(part.rows(table, token_BxL), None, token_BxL, labelled_BxL, part.flat - 1, shape.labels)


def assemble_pairs(table: DeviceTable, planned: StepBatch, shape: BatchShape, around: PairTokens) -> PackedBatch:
    """Gathers one slot's packed batch for an encoder-decoder.

    The source is the prompt and the end token; the decoder reads the start token and the label but for its last
    token, and predicts the label. Arguments as for `assemble`.
    """
    target = _Part.of(table, planned, 0, table.length - table.prompt, shape.rows, shape.length)
    source = _Part.of(table, planned, 1, table.prompt + 1, shape.rows, shape.source_length)
    at_T, at_S = jnp.arange(shape.length), jnp.arange(shape.source_length)
    prompt_Bx1 = source.per_record(table.prompt)
    label_BxT = target.gather(table, prompt_Bx1 + at_T)
    read_BxT = jnp.where(at_T == 0, around.start, target.gather(table, prompt_Bx1 + jnp.maximum(at_T - 1, 0)))
    asked_BxS = jnp.where(at_S == prompt_Bx1, around.end, source.gather(table, at_S))
    rows = target.rows(table, read_BxT)
    return _with_labels(rows, source.rows(table, asked_BxS), label_BxT, target.within, target.flat, shape.labels)


class _Part(NamedTuple):
    """Where one part of each of B records goes in a rows x length block.

    Attributes:
      record: (B,) numbers in the table, 0 where the batch holds fewer.
      within: (B, L) bool, whether the part has a token at this place of its own.
      flat: (B, L) place in the block.
      shape: rows, length.
    """

    record: jax.Array
    within: jax.Array
    flat: jax.Array
    shape: tuple[int, int]

    @classmethod
    def of(
        cls, table: DeviceTable, planned: StepBatch, number: int, length_N: jax.Array, rows: int, length: int
    ) -> _Part:
        record_B = jnp.maximum(planned.record, 0)
        at_L = jnp.arange(length)
        within_BxL = (at_L < length_N[record_B][:, None]) & (planned.record >= 0)[:, None]
        flat_BxL = (planned.row * length + planned.start[:, number])[:, None] + at_L
        return cls(record_B, within_BxL, flat_BxL, (rows, length))

    def per_record(self, value_N: jax.Array) -> jax.Array:
        """(B, 1) value of each record."""
        return value_N[self.record][:, None]

    def gather(self, table: DeviceTable, place: jax.Array) -> jax.Array:
        """(B, L) tokens at these places of the records; any token where the part has none."""
        return table.tokens[jnp.where(self.within, self.per_record(table.offset) + place, 0)]

    def rows(self, table: DeviceTable, token_BxL: jax.Array) -> Rows:
        """The block of these tokens."""
        count, length = self.within.shape
        into_BxL = jnp.where(self.within, self.flat, self.shape[0] * length)  # one past the end: dropped

        def scatter(value: jax.Array) -> jax.Array:
            value_BxL = jnp.broadcast_to(value, (count, length))
            empty = jnp.zeros(self.shape[0] * length, jnp.int32)
            return empty.at[into_BxL].set(value_BxL, mode="drop").reshape(self.shape)

        return Rows(
            tokens=scatter(token_BxL),
            segments=scatter(jnp.arange(1, count + 1)[:, None]),
            positions=scatter(jnp.arange(length)),
            records=scatter(self.per_record(table.name)),
        )


def _with_labels(
    text: Rows, source: Rows | None, label_BxL: jax.Array, labelled_BxL: jax.Array, at_BxL: jax.Array, room: int
) -> PackedBatch:
    """Collects the label tokens, record by record, into the room there is for them."""
    slot_BxL = jnp.where(labelled_BxL, jnp.cumsum(labelled_BxL.ravel()).reshape(labelled_BxL.shape) - 1, room)

    def collect(value_BxL: jax.Array) -> jax.Array:
        return jnp.zeros(room, jnp.int32).at[slot_BxL].set(value_BxL, mode="drop")

    weight = (jnp.arange(room) < labelled_BxL.sum()).astype(jnp.float32)
    return PackedBatch(text, source, label_at=collect(at_BxL), label=collect(label_BxL), label_weight=weight)
