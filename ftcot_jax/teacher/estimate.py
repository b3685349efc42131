"""What sampling will take, before anything is sent: the dry run."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from ftcot_jax.tasks.question import Question
from ftcot_jax.teacher.buyer import Step, Want
from ftcot_jax.teacher.ledger import Ledger
from ftcot_jax.teacher.money import Purse, price_of, prompt_tokens
from ftcot_jax.teacher.plan import ZERO_SHOT_COT, PromptPlan
from ftcot_jax.teacher.settings import TeacherSettings
from ftcot_jax.teacher.stock import Stock, Stockroom


@dataclasses.dataclass
class StepEstimate:
    """One step's missing samples.

    Attributes:
      step: its name in the ledger's report.
      requests: to be sent.
      samples: missing.
      prompt_tokens: about; a token is taken as four characters.
      completion_tokens: at most, every text as long as allowed.
      usual_tokens: as long as this step's texts in the ledger are; None if it has none.
      cost, usual_cost: US dollars of that; None without a price, or without texts to go by.
    """

    step: str
    requests: int = 0
    samples: int = 0
    prompt_tokens: float = 0.0
    completion_tokens: float = 0.0
    usual_tokens: float | None = None
    cost: float | None = None
    usual_cost: float | None = None


@dataclasses.dataclass(frozen=True)
class Estimate:
    """All steps of a run; `complete` of `questions` lack nothing."""

    questions: int
    complete: int
    steps: list[StepEstimate]

    @property
    def cost(self) -> float | None:
        """US dollars at most; None without a price."""
        costs = [step.cost for step in self.steps]
        return None if None in costs else sum(cost or 0.0 for cost in costs)

    def lines(self) -> list[str]:
        """For a person."""
        lines = [f"{self.complete} of {self.questions} questions are in the ledger already"]
        for step in self.steps:
            usual = "" if step.usual_tokens is None else f" (about {step.usual_tokens:,.0f} if as long as those before)"
            money = "" if step.cost is None else f": ${step.cost:,.2f} at most"
            money += "" if step.usual_cost is None else f", about ${step.usual_cost:,.2f}"
            lines.append(
                f"{step.step}: {step.samples} samples in {step.requests} requests, about {step.prompt_tokens:,.0f} "
                f"prompt and at most {step.completion_tokens:,.0f} completion tokens{usual}{money}"
            )
        cost = self.cost
        lines.append("no price is known (teacher.price)" if cost is None else f"in all ${cost:,.2f} at most")
        return lines


def estimate(
    settings: TeacherSettings,
    questions: Sequence[Question],
    ledger: Path,
    plan: PromptPlan = ZERO_SHOT_COT,
    dataset: str = "",
) -> Estimate:
    """Counts what `sample` would buy, sending nothing.

    Args:
      settings: the teacher.
      questions: what to ask.
      ledger: need not exist.
      plan: the prompts.
      dataset: as for `sample`.
    """
    with contextlib.closing(Ledger(ledger if ledger.exists() else Path(":memory:"))) as book:
        purse = Purse(price_of(settings), None, 0.0)
        stockroom = Stockroom(settings, plan, book, dataset)
        steps = [_Counter(f"{plan.name} text", stockroom.first, settings, book)]
        if plan.second is not None:
            steps.append(_Counter(f"{plan.name} answer", stockroom.second, settings, book))
        complete = 0
        for block in stockroom.blocks(questions, texts=False):
            for stock in block:
                complete += stock.complete
                steps[0].add([stock.first])
                if plan.second is not None:
                    steps[1].add([*stock.answers.values(), *_answers_to_come(stock, settings, plan)])
        return Estimate(len(questions), complete, [step.total(purse) for step in steps])


def _answers_to_come(stock: Stock, settings: TeacherSettings, plan: PromptPlan) -> Iterable[Want]:
    """The second prompts of texts still to be bought, each as long as it may get."""
    assert plan.second is not None
    for _ in stock.first.numbers:
        yield Want(plan.second(stock.first.prompt, "four" * settings.max_tokens), "", [0], {})


class _Counter:
    """Adds up one step."""

    def __init__(self, name: str, step: Step, settings: TeacherSettings, ledger: Ledger) -> None:
        self._total = StepEstimate(name)
        self._step, self._largest = step, settings.samples_per_request
        self._usual = ledger.usual_tokens(step.job)

    def add(self, wants: Iterable[Want]) -> None:
        for want in wants:
            if want.numbers:
                requests = math.ceil(len(want.numbers) / self._largest)
                self._total.requests += requests
                self._total.samples += len(want.numbers)
                self._total.prompt_tokens += requests * prompt_tokens(want.prompt)
                self._total.completion_tokens += len(want.numbers) * self._step.max_tokens

    def total(self, purse: Purse) -> StepEstimate:
        total = self._total
        total.cost = purse.cost(total.prompt_tokens, total.completion_tokens)
        if self._usual is not None:
            total.usual_tokens = total.samples * self._usual
            total.usual_cost = purse.cost(total.prompt_tokens, total.usual_tokens)
        return total
