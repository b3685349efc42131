"""Building a packed batch on the device from the record table and a plan of a few integers.

The host sends four integers a record; tokens never leave the device. Positions restart with every record
and segment ids keep records of one row apart, so the student computes what it would on padded rows. Where questions
are shared, a question is a segment of its own, and its rationales, whose positions go on from its end, read it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ftcot_jax.records.packing import BatchShape
from ftcot_jax.records.plan import StepBatch
from ftcot_jax.records.table import RecordTable

_COMPLETIONS = 1024  # a power of two, and more than a teacher is asked for, so that names differ

Numbers = Any  # a jax.Array, or on its way to become one a numpy array


class DeviceTable(NamedTuple):
    """The record table as the device has it, all int32: `tokens` (total,), the others (N,).

    `name` tells records apart whatever table they are in: made of the question and the completion.
    """

    tokens: Numbers
    offset: Numbers
    length: Numbers
    prompt: Numbers
    name: Numbers


class Rows(NamedTuple):
    """Packed rows of tokens.

    Attributes:
      tokens: (R, L) int32, 0 where padded.
      segments: (R, L) int32, 1 + the record's place in the batch; 0 where padded.
      positions: (R, L) int32, counted from each record's first token.
      records: (R, L) int32, the name of each token's record, the same in every packing.
      reads: (R, L) int32, where questions are shared, the segment that each token reads: that of its question.
    """

    tokens: jax.Array
    segments: jax.Array
    positions: jax.Array
    records: jax.Array
    reads: jax.Array | None = None


class PackedBatch(NamedTuple):
    """A batch ready for the student.

    Attributes:
      text: what the decoder reads.
      source: what the encoder reads, in the same row and, unless `text.reads` says otherwise, under the same
        segment id; None for a decoder.
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


def host_table(table: RecordTable) -> DeviceTable:
    """What batches are built from, as numpy arrays of the types the device has; below 2**31 tokens."""
    return DeviceTable(
        table.tokens,
        table.offsets.astype(np.int32),
        table.lengths,
        table.prompt_lengths,
        (table.sample_index * _COMPLETIONS + table.completion_index).astype(np.int32),
    )


def device_table(table: RecordTable) -> DeviceTable:
    """Copies what batches are built from to the default device."""
    return jax.tree.map(jnp.asarray, host_table(table))


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
    if shape.shared:
        return _assemble_shared(table, planned, shape)
    part = _Part.of(table, planned, 0, table.length, shape.rows, shape.length)
    at_L = jnp.arange(shape.length)
    token_BxL = part.gather(table, at_L)
    labelled_BxL = part.within & (at_L >= part.per_record(table.prompt))
    rows = part.rows(token_BxL, _places(planned), at_L, part.per_record(table.name))
    return _with_labels(rows, None, token_BxL, labelled_BxL, part.flat - 1, shape.labels)


def _assemble_shared(table: DeviceTable, planned: StepBatch, shape: BatchShape) -> PackedBatch:
    """`assemble` of rows that hold a question once, before its rationales; the question's last token predicts the
    first label token of each."""
    asked = _Part.of(table, planned, 1, table.prompt, shape.rows, shape.length)
    own = _Part.of(table, planned, 0, table.length - table.prompt, shape.rows, shape.length)
    at_L = jnp.arange(shape.length)
    prompt_Bx1, question_Bx1 = own.per_record(table.prompt), _questions(planned)
    name_Bx1 = own.per_record(table.name)
    label_BxL = own.gather(table, prompt_Bx1 + at_L)
    # Records of one question write it to the same places with the same values.
    question = asked.rows(asked.gather(table, at_L), question_Bx1, at_L, _of_question(name_Bx1), question_Bx1)
    rationales = own.rows(label_BxL, _places(planned), prompt_Bx1 + at_L, name_Bx1, question_Bx1)
    rows = jax.tree.map(jnp.add, question, rationales)  # places of one are zero in the other
    at_BxL = jnp.where(at_L == 0, asked.flat[:, :1] + prompt_Bx1 - 1, own.flat - 1)
    return _with_labels(rows, None, label_BxL, own.within, at_BxL, shape.labels)


def assemble_pairs(table: DeviceTable, planned: StepBatch, shape: BatchShape, around: PairTokens) -> PackedBatch:
    """Gathers one slot's packed batch for an encoder-decoder.

    The source is the prompt and the end token; the decoder reads the start token and the label but for its last
    token, and predicts the label. Arguments as for `assemble`. A shared question is a source that several read.
    """
    target = _Part.of(table, planned, 0, table.length - table.prompt, shape.rows, shape.length)
    source = _Part.of(table, planned, 1, table.prompt + 1, shape.rows, shape.source_length)
    at_T, at_S = jnp.arange(shape.length), jnp.arange(shape.source_length)
    prompt_Bx1 = source.per_record(table.prompt)
    label_BxT = target.gather(table, prompt_Bx1 + at_T)
    read_BxT = jnp.where(at_T == 0, around.start, target.gather(table, prompt_Bx1 + jnp.maximum(at_T - 1, 0)))
    asked_BxS = jnp.where(at_S == prompt_Bx1, around.end, source.gather(table, at_S))
    place_Bx1, name_Bx1 = _places(planned), source.per_record(table.name)
    question_Bx1, asker_Bx1, reads_Bx1 = place_Bx1, name_Bx1, None
    if shape.shared:
        question_Bx1, asker_Bx1 = _questions(planned), _of_question(name_Bx1)
        reads_Bx1 = question_Bx1
    targets = target.rows(read_BxT, place_Bx1, at_T, name_Bx1, reads_Bx1)
    sources = source.rows(asked_BxS, question_Bx1, at_S, asker_Bx1)
    return _with_labels(targets, sources, label_BxT, target.within, target.flat, shape.labels)


def _places(planned: StepBatch) -> jax.Array:
    """(B, 1) segment ids: 1 + each record's place in the batch."""
    return jnp.arange(1, len(planned.record) + 1)[:, None]


def _questions(planned: StepBatch) -> jax.Array:
    """(B, 1) segment ids of the records' questions, one for each question of a row; beyond those of `_places`."""
    return len(planned.record) + 1 + jnp.asarray(planned.start)[:, 1:]


def _of_question(name: jax.Array) -> jax.Array:
    """The name of records' question, which is no record's: its noise does not depend on who shares it."""
    return name | (_COMPLETIONS - 1)


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

    def rows(
        self,
        tokens: jax.Array,
        segments: jax.Array,
        positions: jax.Array,
        records: jax.Array,
        reads: jax.Array | None = None,
    ) -> Rows:
        """The block that holds these values, each broadcast to (B, L), at the part's places."""
        count, length = self.within.shape
        into_BxL = jnp.where(self.within, self.flat, self.shape[0] * length)  # one past the end: dropped

        def scatter(value: jax.Array) -> jax.Array:
            value_BxL = jnp.broadcast_to(value, (count, length))
            empty = jnp.zeros(self.shape[0] * length, jnp.int32)
            return empty.at[into_BxL].set(value_BxL, mode="drop").reshape(self.shape)

        return Rows(
            tokens=scatter(tokens),
            segments=scatter(segments),
            positions=scatter(positions),
            records=scatter(records),
            reads=None if reads is None else scatter(reads),
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
