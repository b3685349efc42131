"""How a student may be laid over a pod, and which layouts to compile next."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

PODS = ("v5e:4x4", "v5e:16x16", "v6e:16x16")

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Layout:
    """Chips that share a trial (fsdp), slots that those hold, records a slot and step, what is recomputed."""

    chips: int = 1
    slots: int = 1
    records: int = 8
    remat: str = "dots"
    executor: str = "vmap"
    dropout: bool = True

    @classmethod
    def of(cls, row: Row) -> Layout:
        """A row's."""
        return cls(**{field.name: row[field.name] for field in dataclasses.fields(cls)})


# What to try, the paper's batch first and then what should be fastest: more records share the reading and writing of
# weights and moments; recomputing all but products costs little arithmetic and spares most of what is stored; several
# slots share nothing.
_ORDER = (
    (8, 1, "dots"), (32, 1, "dots"), (64, 1, "dots"), (8, 1, "full"), (64, 1, "full"), (32, 1, "full"),
    (8, 2, "dots"), (32, 2, "dots"), (8, 1, "none"), (8, 4, "dots"), (64, 2, "dots"),
)  # fmt: skip
_STATE = 18  # bytes a weight: float32 weight, gradient and two moments, and what the products read in bfloat16
_STORES = ("full", "dots", "none")  # what stores more later


def devices_of(pod: str) -> int:
    """Chips of a pod, such as 256 of v5e:16x16."""
    count = 1
    for side in pod.partition(":")[2].split("x"):
        count *= int(side)
    return count


def compiled_for(chip: str, chips: int) -> str:
    """The smallest topology whose program is that of larger pods: nothing travels between the trials."""
    return f"{chip}:{'2x2' if chips == 1 else '4x4' if chips <= 16 else '16x16'}"


def candidates(weights: int, room: float) -> Iterator[Layout]:
    """Layouts in the order in which to compile them, of those whose state alone has room.

    Args:
      weights: how many the student has.
      room: bytes of a chip.
    """
    for chips in (1, 4, 16, 256):
        if _STATE * weights / chips < room:
            for records, slots, remat in _ORDER:
                if slots * _STATE * weights / chips < room:
                    yield Layout(chips, slots, max(records, 2 * chips), remat)


def to_compile(rows: Sequence[Row], student: str, chip: str, weights: int, room: float, most: int) -> Iterator[Layout]:
    """The next layouts to compile, at most `most`; reads `rows` again after each, so a caller may add to them.

    More chips a trial are tried only where no layout with fewer fits, or for want of anything else.
    """
    for _ in range(most):
        own = [row for row in rows if (row["student"], row["chip"]) == (student, chip)]
        done = {Layout.of(row) for row in own}
        fitting = {row["chips"] for row in own if row["fits"]}
        too_large = [Layout.of(row) for row in own if not row["fits"]]
        for layout in candidates(weights, room):
            if layout in done or (fitting and layout.chips > min(fitting)):
                continue
            if any(_holds(layout, other) for other in too_large):
                continue
            needs = predicted_bytes(own, layout)
            if needs is None or needs <= room:
                yield layout
                break
        else:
            return


def _holds(layout: Layout, other: Layout) -> bool:
    """Whether a layout needs all that another needs, or more."""
    return (
        layout.chips == other.chips
        and layout.executor == other.executor
        and layout.slots >= other.slots
        and layout.records >= other.records
        and _STORES.index(layout.remat) >= _STORES.index(other.remat)
    )


def predicted_bytes(rows: Sequence[Row], layout: Layout) -> float | None:
    """Bytes a chip that a layout needs, by a line through two compiled ones; None where there are no two.

    The two differ from it in nothing but slots, or in nothing but records. Of a program that did not fit the compiler
    tells what it would have needed, at least.
    """
    for name in ("records", "slots"):
        alike: dict[int, float] = {}
        for row in rows:
            other = Layout.of(row)
            if dataclasses.replace(other, **{name: getattr(layout, name)}) == layout:
                alike[getattr(other, name)] = row["needed_bytes"]
        if len(alike) >= 2:
            (few, small), (many, large) = sorted(alike.items())[:: len(alike) - 1]
            return small + (large - small) / (many - few) * (getattr(layout, name) - few)
    return None
