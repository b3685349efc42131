"""The few batch shapes that get compiled: rows and row lengths that hold a run's batches at the least arithmetic.

Batches of equally many records differ in tokens, so one row length leaves some rows half empty. A shape has a row
length of its own, and a batch takes the cheapest shape that it fits. Each shape is a program to compile when a batch
first takes it, so there are few: up to four chosen for their cost, one for what is a little beyond them, and the last,
which holds the worst case. Costs are whole numbers, so that all hosts choose alike.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence

import numpy as np

from ftcot_jax.records.packing import BatchShape, deal_rows
from ftcot_jax.records.sizes import Sizes

Room = tuple[int, ...]
Step = Sequence[np.ndarray]  # of every slot, which share a shape, the numbers of its records

SHAPES = 4  # most that are chosen for their cost
# The part of the arithmetic that one more shape must save, a hundredth: it takes ten seconds or more to compile.
_WORTH = 100
_NEVER = 2**50  # the cost of a step in a shape that it does not fit; sums of some hundreds stay exact
# Label tokens are computed in multiples of this.
_LABEL_MULTIPLE = 64
# Row lengths tried first, in multiples of the longest record; then, around the best of them, ever finer parts of it.
_ROW_MULTIPLES = (1, 2, 3, 4, 6)
_FINER = (2, 4, 8)
# Row lengths around the best that shapes may have: so many eighths of the longest record more or less, of records of
# one part and of two.
_AROUND = {1: 8, 2: 2}
# Records that are packed to compare row lengths, and steps.
_TRIED_RECORDS, _TRIED_STEPS = 8000, (4, 200)
# Attention's part of a token's cost grows with its row. It weighs as much as all the rest at about this many
# widths: 12 x width^2 multiplications a token and layer against 2 x length x width, and a softmax that is dearer.
_EQUAL_AT_WIDTHS = 5


def spread(count: int, at_most: int) -> range:
    """At most so many of the numbers below `count`, evenly apart."""
    return range(0, count, -(-count // at_most)) if count else range(0)


def worst_shape(
    most_labels_B: np.ndarray, *, room: Room, rows: int, examples: int, microbatches: int, shared: bool
) -> BatchShape:
    """A shape that holds every batch.

    Args:
      most_labels_B: label tokens of the records with the most.
      room: tokens a row has for each part of a record.
      rows: that no batch exceeds.
      examples: records in a full batch.
      microbatches: parts a batch is computed in.
      shared: whether records of one question share its tokens.
    """
    length, source_length = (*room, 0)[:2]
    labels = int(most_labels_B.sum())
    if microbatches > 1:  # the fullest microbatch has one row's labels more than its share, at most
        labels += microbatches * length
    labels = _round_up(min(labels, rows * length), _LABEL_MULTIPLE * microbatches)
    return BatchShape(rows, length, labels, examples, source_length, microbatches, shared)


def choose_shapes(
    sizes: Sizes,
    steps: Sequence[Step],
    worst: BatchShape,
    *,
    width: int,
    row_multiple: int,
    length_multiple: int,
    one_length: bool,
) -> tuple[BatchShape, ...]:
    """Chooses the shapes that are compiled, cheapest first; the last is `worst`.

    Args:
      sizes: of all records.
      steps: a sample of those that will be taken.
      worst: a shape that holds every batch.
      width: the students' hidden width, which sets how much attention over longer rows costs.
      row_multiple: rows of a shape are a multiple of this.
      length_multiple: and row lengths of this.
      one_length: whether all have the row length of the worst.
    """
    cost = functools.partial(_row_cost, width=width)
    few = max(1, _TRIED_RECORDS // max(1, worst.examples * max(map(len, steps), default=1)))
    tried = [steps[number] for number in spread(len(steps), min(max(few, _TRIED_STEPS[0]), _TRIED_STEPS[1]))]

    @functools.cache
    def rows(room: Room) -> np.ndarray:
        """(steps,) rows of this length that a slot of each step tried has at most."""
        most = [max(sizes.pack(records, room).rows for records in step) for step in tried]
        return np.array([_round_up(max(1, count), row_multiple) for count in most], np.int64)

    rooms = [worst.room] if one_length else _rooms(rows, cost, np.array(worst.room), length_multiple)
    candidates = sorted({(int(count), room) for room in rooms for count in rows(room)})
    paid = np.stack([np.where(rows(room) <= count, count * cost(room), _NEVER) for count, room in candidates], 1)
    chosen = [
        dataclasses.replace(worst, rows=count, length=room[0], source_length=(*room, 0)[1])
        for count, room in (candidates[number] for number in _cheapest_few(paid))
    ]
    ordered = sorted(chosen, key=lambda shape: shape.rows * cost(shape.room))
    shapes = _holding(sizes, steps, ordered, worst, row_multiple)
    return (*(shape for shape in shapes if shape.rows * cost(shape.room) < worst.rows * cost(worst.room)), worst)


def _holding(
    sizes: Sizes, steps: Sequence[Step], shapes: Sequence[BatchShape], worst: BatchShape, row_multiple: int
) -> list[BatchShape]:
    """The shapes, cheapest first, with room for the label tokens of the steps that take them.

    Shapes that no step takes are left out. After them comes one like the last for what does not fit it, not sampled
    steps above all: with an eighth more rows and label tokens than any step sampled needs there.
    """
    last = len(shapes) - 1
    most_rows, most_labels, labels_of = shapes[last].rows, 1, [0] * len(shapes)
    for step in steps:
        for number, shape in enumerate(shapes):
            needs = [_need(sizes, records, shape.room, shape.microbatches) for records in step]
            rows, labels = (max(1, *part) for part in zip(*needs, strict=True))
            most_labels = max(most_labels, labels)
            if rows <= shape.rows:
                labels_of[number] = max(labels_of[number], labels)
                break
            if number == last:
                most_rows = max(most_rows, rows)
    multiple = _LABEL_MULTIPLE * worst.microbatches
    holding = []
    for number, shape in enumerate(shapes):
        if labels_of[number]:  # a dearer shape also takes what has too many labels for a cheaper one
            labels = min(_round_up(max(labels_of[: number + 1]), multiple), worst.labels)
            holding.append(dataclasses.replace(shape, labels=labels))
    rows = min(_round_up(-(-most_rows * 9 // 8), row_multiple), worst.rows)
    labels = min(_round_up(-(-most_labels * 9 // 8), multiple), worst.labels)
    return [*holding, dataclasses.replace(shapes[last], rows=rows, labels=labels)]


def _need(sizes: Sizes, records: np.ndarray, room: Room, microbatches: int) -> tuple[int, int]:
    """Rows and room for labels that one slot's records need."""
    packing, labels = deal_rows(sizes.pack(records, room), sizes.labels[records], microbatches)
    return packing.rows, labels


def _cheapest_few(paid_SxC: np.ndarray) -> list[int]:
    """Chooses few of C candidates so that S steps, each in the cheapest chosen one, cost about the least.

    Args:
      paid_SxC: int64 cost of each step in each candidate, `_NEVER` where it does not fit.
    """

    def spent(chosen: list[int]) -> int:
        return int(paid_SxC[:, chosen].min(1).sum())

    def with_best(chosen: list[int]) -> list[int]:
        so_far = paid_SxC[:, chosen].min(1, initial=_NEVER)
        return [*chosen, int(np.minimum(so_far[:, None], paid_SxC).sum(0).argmin())]

    def exchanged(chosen: list[int]) -> list[int]:
        """Each in turn replaced by a better one, until there is none."""
        better = min((with_best([*chosen[:at], *chosen[at + 1 :]]) for at in range(len(chosen))), key=spent)
        return chosen if spent(better) >= spent(chosen) else exchanged(better)

    chosen = with_best([])
    while len(chosen) < SHAPES:
        more = exchanged(with_best(chosen))
        if _WORTH * spent(more) > (_WORTH - 1) * spent(chosen):
            break
        chosen = more
    return chosen


def _row_cost(room: Room, width: int) -> int:
    """Arithmetic of a row, in parts of that of a token that attends to nothing, `_EQUAL_AT_WIDTHS` x width of them."""
    (target, *source), alone = room, _EQUAL_AT_WIDTHS * width
    row = target * (alone + sum(room))  # a decoder's token reads its row, and its source
    return row + sum(length * (alone + length) for length in source)


def _rooms(
    rows: Callable[[Room], np.ndarray], cost: Callable[[Room], int], longest: np.ndarray, length_multiple: int
) -> list[Room]:
    """Row lengths that shapes may have: around the one at which all steps together would cost the least.

    Args:
      rows: of each step at a row length.
      cost: of a row.
      longest: (P,) tokens of the longest record's parts, in multiples of `length_multiple`.
      length_multiple: row lengths are multiples of it.
    """

    def of_all(room: Room) -> int:
        return int(rows(room).sum()) * cost(room)

    rooms = longest * np.array(list(itertools.product(_ROW_MULTIPLES, repeat=len(longest))))
    best = min((tuple(room.tolist()) for room in rooms), key=of_all)
    for part in _FINER:
        step = -(-longest // part // length_multiple) * length_multiple
        moves = np.array(list(itertools.product((0, -1, 1), repeat=len(longest)))) * step
        while (near := min((_at_least(longest, best + move) for move in moves), key=of_all)) != best:
            best = near
    most = _AROUND[len(longest)]
    step = np.maximum(longest // 8 // length_multiple, 1) * length_multiple
    moves = np.array(list(itertools.product(range(-most, most + 1), repeat=len(longest)))) * step
    return sorted({_at_least(longest, longest), *(_at_least(longest, best + move) for move in moves)})


def _at_least(longest: np.ndarray, room: np.ndarray) -> Room:
    return tuple(np.maximum(longest, room).tolist())


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
