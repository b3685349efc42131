"""What a trial cost: dollars for the teacher's text, and device time."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one trial. None is unknown, and zero is free.

    Attributes:
      teacher_dollars: its share of what the rationales it selects from cost; they are bought once for all trials, so
        shares of trials that use the same do not add up to a bill.
      estimated: whether those dollars were reckoned from the texts' lengths, as nothing was bought here.
      train_chip_seconds: devices times wall seconds in a slot, over the slots of its pool.
      score_chip_seconds: devices times wall seconds of asking it.
      chip_hour_dollars: price of a device's hour, if it was given.
    """

    teacher_dollars: float | None = None
    estimated: bool = False
    train_chip_seconds: float | None = None
    score_chip_seconds: float | None = None
    chip_hour_dollars: float | None = None

    @property
    def chip_seconds(self) -> float | None:
        """Training and asking."""
        if self.train_chip_seconds is None or self.score_chip_seconds is None:
            return None
        return self.train_chip_seconds + self.score_chip_seconds

    @property
    def chip_dollars(self) -> float | None:
        if self.chip_seconds is None or self.chip_hour_dollars is None:
            return None
        return self.chip_seconds / 3600 * self.chip_hour_dollars

    @property
    def dollars(self) -> float | None:
        """Teacher and devices; of a part whose price nobody knows nothing, and None if both are so."""
        known = [part for part in (self.teacher_dollars, self.chip_dollars) if part is not None]
        return sum(known) if known else None


def money(dollars: float | None) -> str:
    """Dollars with three figures at least."""
    if dollars is None:
        return "-"
    if dollars >= 100 or dollars == 0:
        return f"{dollars:.0f}"
    return f"{dollars:.2f}" if dollars >= 1 else f"{dollars:.3g}"
