"""Packing a batch's records into rows of one length.

A step's batch holds exactly the records the padded reference would hold; packing only decides where in a
rows x length block each one lies. A record of an encoder-decoder has two parts, its target and its source, which
lie in the same row of two such blocks, so that attention between them stays within the row. A compiled program
needs fixed shapes; which ones is chosen in `shapes`.

Records that have one question may share its tokens: the question lies in a row once, its rationales after it.
"""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class BatchShape:
    """A compiled batch: `rows` x `length` tokens, room for `labels` label tokens and `examples` records.

    For an encoder-decoder, `length` is of the decoder's rows and `source_length` of the encoder's. Computed in
    `microbatches` parts, each has an equal share of the rows and of the room for labels; see `deal_rows`. `shared`
    says whether records of one question share its tokens.
    """

    rows: int
    length: int
    labels: int
    examples: int
    source_length: int = 0
    microbatches: int = 1
    shared: bool = False

    @property
    def room(self) -> tuple[int, ...]:
        """(P,) tokens a row has for each part of a record."""
        return (self.length, self.source_length) if self.source_length else (self.length,)


@dataclasses.dataclass(frozen=True)
class Packing:
    """Where each record of one batch lies.

    Attributes:
      row: (B,) int32.
      start: (B, P) int32, first place of each of its parts in the row.
      rows: how many there are.
      tokens: real tokens in them.
    """

    row: np.ndarray
    start: np.ndarray
    rows: int
    tokens: int


def pack(lengths_BxP: np.ndarray, room: tuple[int, ...]) -> Packing:
    """Packs records into few rows.

    Records of one part by first-fit decreasing: the longest first, each into the first row with room. Of two parts by
    filling one row after another, each time with the record whose parts are most nearly in proportion to the room that
    is left, so that neither part of a row is full long before the other.

    Args:
      lengths_BxP: (B, P) tokens of each part of each record, none above its room. A decoder's records have one
        part, an encoder-decoder's two: target, source.
      room: (P,) tokens a row has for each part.
    """
    if len(lengths_BxP) and (beyond := lengths_BxP.max(0) > room).any():
        part = int(beyond.argmax())
        raise ValueError(f"a record of {int(lengths_BxP[:, part].max())} tokens does not fit a row of {room[part]}")
    row = np.zeros(len(lengths_BxP), np.int32)
    start = np.zeros(lengths_BxP.shape, np.int32)
    free = np.tile(np.array(room, np.int64), (len(lengths_BxP), 1))  # a row each is the worst case
    rows = 0
    if len(room) > 1:
        return _fill_rows(lengths_BxP, room)
    for record in np.argsort(-lengths_BxP[:, 0], kind="stable"):
        lengths = lengths_BxP[record]
        place = int((free[: rows + 1] >= lengths).all(1).argmax())  # the row after the last is empty: it fits
        row[record], start[record] = place, room - free[place]
        free[place] -= lengths
        rows = max(rows, place + 1)
    return Packing(row, start, rows, int(lengths_BxP.sum()))


def _fill_rows(lengths_BxP: np.ndarray, room: tuple[int, ...]) -> Packing:
    """`pack` of records of several parts."""
    row, start = np.zeros(len(lengths_BxP), np.int32), np.zeros(lengths_BxP.shape, np.int32)
    share_BxP = lengths_BxP / room
    direction_BxP = share_BxP / np.linalg.norm(share_BxP, axis=1, keepdims=True)
    # Of records in equal proportion the longest comes first, whatever their order.
    left = np.argsort(-share_BxP.sum(1), kind="stable")
    rows = 0
    while len(left):
        free = np.array(room, np.int64)
        while len(fitting := np.flatnonzero((lengths_BxP[left] <= free).all(1))):
            chosen = fitting[(direction_BxP[left[fitting]] @ (free / room)).argmax()]
            record = left[chosen]
            row[record], start[record] = rows, room - free
            free -= lengths_BxP[record]
            left = np.delete(left, chosen)
        rows += 1
    return Packing(row, start, rows, int(lengths_BxP.sum()))


def pack_questions(
    own_BxP: np.ndarray, asked_BxP: np.ndarray, question_B: np.ndarray, room: tuple[int, ...]
) -> Packing:
    """Packs records so that those of one question share its tokens where they lie in one row.

    The largest question first, with all its records, into the first row with room for all; failing that, as many of
    them as fit into the first row with room for the longest, and the rest elsewhere with another copy.

    Args:
      own_BxP: (B, P) tokens that each part of a record has for itself: of its rationale.
      asked_BxP: (B, P) tokens of its question, equal for records of one question.
      question_B: (B,) which question.
      room: (P,) tokens a row has for each part.

    Returns:
      The packing; a record's two starts are those of its own tokens in the first part's rows and of its question in
      the last part's. A decoder's rows hold both: the question, then its rationales one after another.
    """
    if len(own_BxP) and (beyond := (own_BxP + asked_BxP).max(0) > room).any():
        raise ValueError(f"a record does not fit a row of {room[int(beyond.argmax())]} tokens")
    row, start = np.zeros(len(own_BxP), np.int32), np.zeros((len(own_BxP), 2), np.int32)
    groups: dict[int, list[int]] = {}
    for record in np.argsort(-own_BxP[:, 0], kind="stable").tolist():
        groups.setdefault(int(question_B[record]), []).append(record)
    asked = {question: asked_BxP[members[0]] for question, members in groups.items()}
    whole = {question: asked[question] + own_BxP[members].sum(0) for question, members in groups.items()}
    free = np.tile(np.array(room, np.int64), (len(own_BxP), 1))
    rows = tokens = 0
    for question in sorted(groups, key=lambda question: (-(whole[question] / room).max(), min(groups[question]))):
        rest, need = groups[question], whole[question]
        while rest:
            fits = (free[:rows] >= need).all(1)
            if not fits.any():  # the row after the last is empty: it fits one
                fits = (free[: rows + 1] >= asked[question] + own_BxP[rest[0]]).all(1)
            place = int(fits.argmax())
            start[rest, 1] = room[-1] - free[place, -1]
            free[place] -= asked[question]
            left = []
            for record in rest:
                if (free[place] >= own_BxP[record]).all():
                    row[record], start[record, 0] = place, room[0] - free[place, 0]
                    free[place] -= own_BxP[record]
                    need = need - own_BxP[record]
                else:
                    left.append(record)
            tokens += int(asked[question].sum())
            rest, rows = left, max(rows, place + 1)
    return Packing(row, start, rows, tokens + int(own_BxP.sum()))


def deal_rows(packing: Packing, labels_B: np.ndarray, microbatches: int) -> tuple[Packing, int]:
    """Numbers the rows so that row r in microbatch r modulo `microbatches` gives each about as many label tokens.

    Rows are dealt in turn, those with the most labels first. So no microbatch has more rows than another but by one,
    and none more labels than its share and one row's.

    Args:
      packing: where the records lie.
      labels_B: (B,) label tokens of each record.
      microbatches: parts the batch is computed in.

    Returns:
      The packing renumbered, and the room for labels that gives every microbatch what the fullest one needs.
    """
    if microbatches == 1:
        return packing, int(labels_B.sum())
    labels_R = np.bincount(packing.row, labels_B, packing.rows).astype(np.int64)
    order = np.argsort(-labels_R, kind="stable")
    number = np.empty(packing.rows, np.int32)
    number[order] = np.arange(packing.rows)
    fullest = int(labels_R[order][::microbatches].sum())
    return dataclasses.replace(packing, row=number[packing.row]), microbatches * fullest
