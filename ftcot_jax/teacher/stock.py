"""What the ledger holds of a question, what is missing of it, and the completions it makes."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ftcot_jax.tasks.question import Question
from ftcot_jax.teacher.buyer import Step, Want
from ftcot_jax.teacher.completion import Completion
from ftcot_jax.teacher.ledger import Ledger, Sample
from ftcot_jax.teacher.plan import PromptPlan
from ftcot_jax.teacher.settings import TeacherSettings
from ftcot_jax.teacher.wire import split_thinking

_SAMPLES_A_LOOK = 4096

_Reasoned = tuple[str | None, str | None, str | None]  # prompt, text and finish reason of a step before the last
_NOT_REASONED = (None, None, None)


@dataclasses.dataclass(slots=True)
class Stock:
    """One question's samples.

    Attributes:
      question: whose.
      first: what is bought and missing of the first step.
      answers: second prompt -> what is bought and missing of it.
    """

    question: Question
    first: Want
    answers: dict[str, Want]

    @property
    def complete(self) -> bool:
        return not self.first.numbers and not any(want.numbers for want in self.answers.values())


class Stockroom:
    """Reads a plan's samples off the ledger.

    Args:
      settings: the teacher.
      plan: how it is asked.
      ledger: of purchases.
      dataset: names the purchases in the ledger's report.

    Attributes:
      first, second: the plan's requests.
    """

    def __init__(self, settings: TeacherSettings, plan: PromptPlan, ledger: Ledger, dataset: str) -> None:
        self.plan, self._settings, self._ledger = plan, settings, ledger
        sampling: dict[str, Any] = {"temperature": settings.temperature, "max_tokens": settings.max_tokens}
        if plan.stop:
            sampling["stop"] = list(plan.stop)
        answering = {"temperature": 0.0, "max_tokens": settings.answer_max_tokens}
        self.first = Step(settings, sampling, ledger.job(dataset, f"{plan.name} text"))
        self.second = Step(settings, answering, ledger.job(dataset, f"{plan.name} answer"))

    def look(self, questions: Sequence[Question], texts: bool = True) -> list[Stock]:
        """The questions' samples as the ledger has them now, read in two queries.

        Args:
          questions: whose.
          texts: whether answers that are bought are read too; without, only the missing ones are in `answers`.
        """
        count = self._settings.diversity
        prompts = [self.plan.first(question) for question in questions]
        requests = [self.first.identity(prompt) for prompt in prompts]
        bought = self._ledger.samples_of(requests)
        stocks = []
        for question, prompt, request in zip(questions, prompts, requests, strict=True):
            have = bought.get(request, {})
            numbers = [number for number in range(count) if number not in have]
            stocks.append(Stock(question, Want(prompt, request, numbers, have), {}))
        if texts:
            new = [want for stock in stocks for want in self.ask_for_answers(stock)]
            self.put(new, self._ledger.samples_of([want.request for want in new]))
        elif self.plan.second is not None:
            self._look_for_missing_answers(stocks)
        return stocks

    def _look_for_missing_answers(self, stocks: Sequence[Stock]) -> None:
        asked = [{self.second.identity(prompt): prompt for prompt in self._second_prompts(stock)} for stock in stocks]
        bought = self._ledger.bought([request for requests in asked for request in requests])
        for stock, requests in zip(stocks, asked, strict=True):
            if not bought.issuperset(requests):
                missing = {prompt: request for request, prompt in requests.items() if request not in bought}
                stock.answers = {prompt: Want(prompt, request, [0], {}) for prompt, request in missing.items()}

    def _second_prompts(self, stock: Stock) -> Iterator[str]:
        for number, sample in stock.first.have.items():
            # The ledger may hold more than this D asks for.
            prompt = self._second_prompt(stock, sample) if number < self._settings.diversity else None
            if prompt is not None:
                yield prompt

    def ask_for_answers(self, stock: Stock) -> list[Want]:
        """Adds the second step of what is there of the first; equal texts share one answer. Returns what is new."""
        new: list[Want] = []
        for prompt in self._second_prompts(stock) if self.plan.second is not None else ():
            if prompt not in stock.answers:
                stock.answers[prompt] = Want(prompt, self.second.identity(prompt), [0], {})
                new.append(stock.answers[prompt])
        return new

    @staticmethod
    def put(answers: Sequence[Want], bought: Mapping[str, dict[int, Sample]]) -> None:
        """Fills in the answers that have been bought before."""
        for want in answers:
            if have := bought.get(want.request):
                want.have.update(have)
                want.numbers = [] if 0 in have else [0]

    def completions(self, stock: Stock) -> Iterator[Completion]:
        """The question's completions of which all steps are bought, by completion index."""
        for number in range(self._settings.diversity):
            sample = stock.first.have.get(number)
            if sample is None:
                continue
            thought, text = split_thinking(sample)
            reasoned = (stock.first.prompt, text if thought is None else thought, sample.finish_reason)
            prompt = self._second_prompt(stock, sample)
            if prompt is None:
                last = Sample(text, sample.finish_reason)
                yield self._row(stock, number, _NOT_REASONED if thought is None else reasoned, stock.first.prompt, last)
            elif answer := stock.answers[prompt].have.get(0):
                yield self._row(stock, number, reasoned, prompt, answer)

    def _second_prompt(self, stock: Stock, sample: Sample) -> str | None:
        """The prompt that asks for the answer; None where there is no second step or reasoning led to an answer."""
        if self.plan.second is None:
            return None
        thought, text = split_thinking(sample)
        if thought is not None and text.strip():
            return None
        return self.plan.second(stock.first.prompt, text if thought is None else thought)

    @staticmethod
    def _row(stock: Stock, number: int, reasoned: _Reasoned, prompt: str, last: Sample) -> Completion:
        question = stock.question
        return Completion(
            sample_index=question.sample_index,
            completion_index=number,
            question=question.question,
            answer=question.answer,
            reasoning_prompt=reasoned[0],
            reasoning_completion=reasoned[1],
            reasoning_finish_reason=reasoned[2],
            prompt=prompt,
            completion=split_thinking(last)[1],
            finish_reason=last.finish_reason,
        )

    def blocks(self, questions: Iterable[Question], texts: bool = True) -> Iterator[list[Stock]]:
        """`look` at the questions, some at a time, so that memory stays small however many there are."""
        waiting = iter(questions)
        size = max(1, _SAMPLES_A_LOOK // self._settings.diversity)
        while block := list(itertools.islice(waiting, size)):
            yield self.look(block, texts)
