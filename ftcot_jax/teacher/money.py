"""What sampling costs: the price table, what was spent, what is under way, and the cap."""

from __future__ import annotations

import asyncio
import functools
import importlib.resources
from collections.abc import Sequence

import yaml

from ftcot_jax.errors import FtcotError, UsageError
from ftcot_jax.teacher.ledger import Account
from ftcot_jax.teacher.settings import Price, TeacherSettings

_CHARACTERS_PER_TOKEN = 4.0


class BudgetSpent(FtcotError):
    """The cap is reached; nothing more is sent."""


@functools.cache
def price_table() -> dict[str, Price]:
    """The package's prices, by model name."""
    text = importlib.resources.files("ftcot_jax.teacher").joinpath("prices.yaml").read_text(encoding="utf-8")
    return {name: Price.model_validate(row) for name, row in yaml.safe_load(text).items()}


def price_of(settings: TeacherSettings) -> Price | None:
    """The recipe's price, or the table's for this model name, or None.

    Raises:
      UsageError: there is a budget but no price.
    """
    price = settings.price or price_table().get(settings.model_name)
    if price is None and settings.budget is not None:
        raise UsageError(
            f"teacher.budget: no price is known for model '{settings.model_name}'; give "
            "teacher.price={prompt: X, completion: Y} in US dollars for a million tokens"
        )
    return price


def prompt_tokens(prompt: str) -> float:
    """About how many tokens a prompt has, for limits and estimates: a token of English is some four characters."""
    return len(prompt) / _CHARACTERS_PER_TOKEN


class Purse:
    """Spent and reserved money; without a price everything costs None and nothing is capped.

    Args:
      price: of the model.
      budget: US dollars in all, over the ledger's life.
      spent: US dollars that the ledger holds already, those perhaps paid included.

    Attributes:
      spent: US dollars.
    """

    def __init__(self, price: Price | None, budget: float | None, spent: float) -> None:
        self._price, self._budget = price, budget
        self.spent = spent
        self._reserved, self._under_way = 0.0, 0
        self._settled = asyncio.Event()

    @property
    def priced(self) -> bool:
        return self._price is not None

    def cost(self, prompt: float, completion: float) -> float | None:
        """US dollars of so many tokens; None without a price."""
        if self._price is None:
            return None
        return (prompt * self._price.prompt + completion * self._price.completion) / 1e6

    async def reserve(self, cost: float | None) -> None:
        """Sets aside what a request may cost at most, once that fits beside what is under way; `settle` ends it.

        Raises:
          BudgetSpent: nothing is under way any more and it still might take more than the budget.
        """
        if cost is None:
            return
        while self._budget is not None and self.spent + self._reserved + cost > self._budget:
            if self._under_way == 0:
                raise BudgetSpent(
                    f"teacher.budget: ${self.spent:.4f} of ${self._budget:.4f} is spent and the next request may take "
                    "more than the rest; everything bought is in the ledger; raise teacher.budget and run the same "
                    "command to go on"
                )
            self._settled.clear()
            await self._settled.wait()
        self._reserved += cost
        self._under_way += 1

    def settle(self, reserved: float | None, cost: float | None) -> None:
        """Puts what a request did cost in place of what was reserved for it."""
        if reserved is not None:
            self._under_way -= 1
            self._reserved = self._reserved - reserved if self._under_way else 0.0
        self.spent += cost or 0.0
        self._settled.set()


def bill(report: Sequence[tuple[str, str, int, int, int, float]], account: Account) -> list[str]:
    """What a ledger has cost, a line a dataset and step, and what is uncertain in it.

    Args:
      report: from `Ledger.report`.
      account: from `Ledger.account`.
    """
    lines = [
        f"{dataset or '-'}, {step}: {requests} answers, {prompt:,} prompt and {completion:,} completion tokens"
        + (f", ${cost:,.4f}" if cost else "")
        for dataset, step, requests, prompt, completion, cost in report
    ]
    if account.cost:
        lines.append(f"in all ${account.cost:,.4f}")
    if account.perhaps_paid:
        cost = f", ${account.perhaps_cost:,.4f} at most" if account.perhaps_cost else ""
        lines.append(f"{account.perhaps_paid} requests have no outcome: perhaps paid{cost}")
    if account.duplicates:
        lines.append(f"{account.duplicates} samples were bought twice by processes that lost sight of each other")
    return lines
