"""The report's table of costs, and what they come to for a point of accuracy."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ftcot_jax.sweeps.cost import Cost, money
from ftcot_jax.sweeps.results import ArmResult
from ftcot_jax.sweeps.table import Table


def mean_cost(arm: ArmResult, part: Callable[[Cost], float | None]) -> float | None:
    """Mean over an arm's trials; None where one does not know."""
    found = [part(trial.cost) for trial in arm.trials]
    known = [value for value in found if value is not None]
    return sum(known) / len(known) if found and len(known) == len(found) else None


def cost_table(arms: Sequence[ArmResult]) -> Table | None:
    """A row an arm: dollars and chip-seconds of one trial, mean over seeds, and both for a point of accuracy.

    Returns:
      None where nothing is known of any.
    """
    costs = [trial.cost for arm in arms for trial in arm.trials]
    if not any(cost.dollars is not None or cost.chip_seconds is not None for cost in costs):
        return None
    head = ["method", "accuracy %", "teacher $", "devices $", "$ in all", "$ a point"]
    head += ["training chip-s", "scoring chip-s", "chip-s a point"]
    rows = []
    for arm in arms:
        points = 100 * arm.accuracy
        dollars = mean_cost(arm, lambda cost: cost.dollars)
        seconds = mean_cost(arm, lambda cost: cost.chip_seconds)
        rows.append(
            [
                arm.arm,
                f"{points:.1f}",
                money(mean_cost(arm, lambda cost: cost.teacher_dollars)),
                money(mean_cost(arm, lambda cost: cost.chip_dollars)),
                money(dollars),
                "-" if dollars is None or not points else money(dollars / points),
                _seconds(mean_cost(arm, lambda cost: cost.train_chip_seconds)),
                _seconds(mean_cost(arm, lambda cost: cost.score_chip_seconds)),
                "-" if seconds is None or not points else f"{seconds / points:.2f}",
            ]
        )
    return Table("cost", "Cost of a trial", head, rows, notes=_notes(costs))


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _notes(costs: Sequence[Cost]) -> list[str]:
    notes = [
        "Means over seeds. A point is one per cent of accuracy. A chip-second is one device held for a second; trials "
        "that shared a pool's slots share its time. The teacher's dollars are the trial's share of completions that "
        "are bought once for all trials: these shares are not a bill."
    ]
    if any(cost.estimated for cost in costs):
        notes.append(
            "Nothing was bought here for imported completions: their dollars are reckoned from the texts' lengths "
            "(four characters a token) and the price of the model."
        )
    if not any(cost.teacher_dollars is not None for cost in costs):
        notes.append("No price of a teacher is known; teacher.price in the recipe gives it.")
    if not any(cost.chip_hour_dollars is not None for cost in costs):
        notes.append("No price of these devices is known; `ftcot report --price` gives dollars a device and hour.")
    else:
        prices = sorted({cost.chip_hour_dollars for cost in costs if cost.chip_hour_dollars is not None})
        notes.append(f"Dollars a device and hour: {', '.join(f'{price:g}' for price in prices)}.")
    return notes
