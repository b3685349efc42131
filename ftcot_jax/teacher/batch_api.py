"""Completions by batch files: slower than the live sampler and, where APIs sell it so, half the price.

The same ledger as the live sampler's holds what was bought; `folder` holds what was sent, where, and what came of it.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ftcot_jax.errors import FtcotError, UsageError
from ftcot_jax.tasks.question import Question
from ftcot_jax.teacher.api_state import ApiState, Line, LineResult
from ftcot_jax.teacher.batch_lines import count_rows, read_results
from ftcot_jax.teacher.batch_local import LocalBatches
from ftcot_jax.teacher.batch_plan import Order, Part, plan_parts
from ftcot_jax.teacher.batch_remote import Finished, RemoteBatches, Runner, input_file
from ftcot_jax.teacher.batch_settings import BatchFileSettings
from ftcot_jax.teacher.buyer import Step
from ftcot_jax.teacher.ledger import Intent, Ledger, Outcome
from ftcot_jax.teacher.money import BudgetSpent, Purse, price_of, prompt_tokens
from ftcot_jax.teacher.openai_account import OpenAIAccount
from ftcot_jax.teacher.plan import ZERO_SHOT_COT, PromptPlan
from ftcot_jax.teacher.sampler import Purchases, Sampled
from ftcot_jax.teacher.settings import TeacherSettings
from ftcot_jax.teacher.stock import Stock, Stockroom
from ftcot_jax.teacher.wire import split_thinking

_IDENTICAL_QUESTIONS = 5

Progress = Callable[[int, int, str], None]


@dataclasses.dataclass(frozen=True)
class BatchAccount:
    """What a folder's batches came to, over its whole life.

    Attributes:
      batches: created or adopted.
      adopted: of them, those that a run found at the server instead of creating them again.
      answered, refused, failed: requests; failed ones were asked again or will be.
      perhaps_paid: requests the server counts as answered but whose text never came.
    """

    batches: int
    adopted: int
    answered: int
    refused: int
    failed: int
    perhaps_paid: int


@dataclasses.dataclass(frozen=True)
class BatchSampled(Sampled):
    """What a teacher wrote, as from the live sampler, and what its batches came to."""

    batches: BatchAccount


def sample_by_batch(
    teacher: TeacherSettings,
    batch: BatchFileSettings,
    questions: Sequence[Question],
    ledger: Path,
    folder: Path,
    on_progress: Progress = lambda there, wanted, state: None,
    *,
    plan: PromptPlan = ZERO_SHOT_COT,
    dataset: str = "",
    say: Callable[[str], None] = lambda line: None,
) -> BatchSampled:
    """Brings `teacher.diversity` completions of every question by batch files, buying only what the ledger lacks.

    Args:
      teacher: model and sampling settings; of the API runner also the endpoint and the key's variable.
      batch: how files are made and who answers them.
      questions: what to ask.
      ledger: the SQLite file of purchases, the live sampler's; made if missing.
      folder: what was sent and received; made if missing. The same folder goes on where the last run ended.
      on_progress: called with (samples there, samples wanted in this step, what is under way).
      plan: the prompts.
      dataset: names the purchases in the report.
      say: receives a line for every batch started or ended.

    Raises:
      Preempted: `batch.wait_seconds` are over, or files wait for the user to answer them.
      BudgetSpent: the next files may cost more than is left of `teacher.budget`.
      FtcotError: the API or the command fails; everything finished is kept.
    """
    with contextlib.ExitStack() as stack:
        state, book = stack.enter_context(ApiState(folder)), stack.enter_context(contextlib.closing(Ledger(ledger)))
        room = Stockroom(teacher, plan, book, dataset)
        sampler = _BatchSampler(teacher, batch, state, book, room, on_progress, say, stack)
        refused = sampler.sample(questions)
        account, report, batches = book.account(), book.report(), sampler.account()
    return BatchSampled(Purchases(teacher, questions, ledger, plan, dataset), refused, account, report, batches)


class _BatchSampler:
    def __init__(
        self,
        teacher: TeacherSettings,
        batch: BatchFileSettings,
        state: ApiState,
        ledger: Ledger,
        room: Stockroom,
        on_progress: Progress,
        say: Callable[[str], None],
        stack: contextlib.ExitStack,
    ) -> None:
        self._teacher, self._batch, self._state, self._ledger, self._room = teacher, batch, state, ledger, room
        self._on_progress, self._say = on_progress, say
        self._purse = Purse(price_of(teacher), teacher.budget, 0.0)
        self._choices = teacher.samples_per_request
        self._there = self._wanted = 0
        if batch.runner == "api":
            if len(teacher.endpoints) != 1:
                raise UsageError("teacher.batch: runner api needs one teacher.endpoint")
            account = stack.enter_context(
                OpenAIAccount(
                    teacher.endpoints[0],
                    teacher.key_env,
                    timeout_seconds=teacher.timeout_seconds,
                    attempts=teacher.attempts,
                    settle_seconds=batch.settle_seconds,
                )
            )
            url = f"/v1{room.first.wire.path}"
            self._runner: Runner = RemoteBatches(account, state, batch, url, say, self._report)
        else:
            self._runner = LocalBatches(state, batch, teacher.model_name, say, self._report)

    def sample(self, questions: Sequence[Question]) -> dict[int, str]:
        """Buys what is missing; returns sample index to reason, for questions of which something was refused."""
        for part in self._state.open_parts():
            if not self._runner.begun(part):
                self._state.drop_part(part)  # nothing of it exists: its lines are planned afresh, as now wanted
        refused: dict[int, str] = {}
        self._bring(self._room.first, lambda: self._first(questions), refused)
        self._check_repeats(questions)
        self._bring(self._room.second, lambda: self._second(questions), refused)
        return refused

    def account(self) -> BatchAccount:
        outcomes = self._state.line_outcomes()
        known = ("answered", "refused", "unread", "open")
        return BatchAccount(
            batches=self._state.parts_made(),
            adopted=self._state.adoptions("batch"),
            answered=outcomes.get("answered", 0),
            refused=outcomes.get("refused", 0),
            failed=sum(number for word, number in outcomes.items() if word not in known),
            perhaps_paid=outcomes.get("unread", 0),
        )

    def _stocks(self, questions: Sequence[Question]) -> Iterable[Stock]:
        return (stock for block in self._room.blocks(questions) for stock in block)

    def _first(self, questions: Sequence[Question]) -> Iterable[Order]:
        for stock in self._stocks(questions):
            yield Order(stock.first, stock.question.sample_index)

    def _second(self, questions: Sequence[Question]) -> Iterable[Order]:
        second = self._room.plan.second
        for stock in self._stocks(questions) if second is not None else ():
            waiting = dict(stock.answers)
            for number, sample in sorted(stock.first.have.items()):
                if number >= self._teacher.diversity:
                    break  # bought for a larger D, which is not wanted now
                thought, text = split_thinking(sample)
                assert second is not None
                want = waiting.pop(second(stock.first.prompt, text if thought is None else thought), None)
                if want is not None:
                    yield Order(want, stock.question.sample_index, number)

    def _bring(self, step: Step, orders: Callable[[], Iterable[Order]], refused: dict[int, str]) -> None:
        """Has batches run until everything ordered is bought or refused."""
        failures: collections.Counter[str] = collections.Counter()
        while missing := self._missing(orders(), refused):
            running = self._running(missing)
            lacking = [
                (order, rest)
                for request, order in missing.items()
                if (rest := [number for number in order.want.numbers if (request, number) not in running])
            ]
            self._check_budget(step, lacking)
            parts = plan_parts(
                lacking,
                step.wire,
                self._teacher.seed if self._teacher.send_seed else None,
                choices=self._choices,
                max_requests=self._batch.max_requests,
                max_bytes=self._batch.max_bytes,
            )
            planned = [self._write(part) for part in parts]
            ended = self._runner.finished([*dict.fromkeys(running.values()), *planned])
            if not sum(self._collect(batch, step, failures) for batch in ended):
                time.sleep(self._batch.poll_seconds)  # nothing came: a full queue, or a server in trouble
        self._on_progress(self._wanted, self._wanted, "")

    def _missing(self, orders: Iterable[Order], refused: dict[int, str]) -> dict[str, Order]:
        """Orders with samples to buy, by request; equal prompts share their samples."""
        missing: dict[str, Order] = {}
        self._there = self._wanted = 0
        for order in orders:
            request, lacking = order.want.request, len(order.want.numbers)
            self._there += len(order.want.have)
            self._wanted += len(order.want.have) + lacking
            reason = self._state.refusal(request) if lacking else None
            if reason is not None:
                refused[order.sample_index] = reason
            elif lacking:
                missing.setdefault(request, order)
        return missing

    def _check_budget(self, step: Step, orders: Iterable[tuple[Order, Sequence[int]]]) -> None:
        """Stops before files that may cost more than is left."""
        budget = self._teacher.budget
        if budget is None:
            return
        account = self._ledger.account()
        spent = account.cost + account.perhaps_cost
        most = sum(
            self._purse.cost(prompt_tokens(order.want.prompt), len(numbers) * step.max_tokens) or 0.0
            for order, numbers in orders
        )
        if spent + most > budget:
            raise BudgetSpent(
                f"teacher.budget: ${spent:.4f} of ${budget:.4f} is spent and the next batch files may cost "
                f"${most:.4f}; everything bought is in the ledger; raise teacher.budget or lower teacher.diversity"
            )

    def _running(self, missing: Iterable[str]) -> dict[tuple[str, int], str]:
        """(request, number) to the open batch file that already asks for it."""
        wanted = set(missing)
        return {
            (line.request, number): part
            for part in self._state.open_parts()
            for line in self._state.lines(part)
            if line.request in wanted
            for number in line.numbers
        }

    def _write(self, part: Part) -> str:
        """Writes a batch file and its row down; returns its key."""
        # The same lines may be sent again after an expired batch: that is another file, with another key.
        key = hashlib.sha256(f"{part.content} {self._state.times_made(part.content)}".encode()).hexdigest()[:24]
        input_file(self._state.folder, key).write_bytes(part.text)
        self._state.add_part(key, part.content, part.lines)
        return key

    def _collect(self, batch: Finished, step: Step, failures: collections.Counter[str]) -> int:
        """Writes down what an ended batch brought; returns how many of its requests were answered.

        Raises:
          FtcotError: what is missing would fail again, or has failed `rounds` times.
        """
        lines = self._state.lines(batch.part)
        reading = read_results(batch.files, lines, step.wire)
        there = {result.custom_id for result in reading.results}
        short = batch.status == "completed" or (batch.written or 0) > count_rows(batch.files[0])
        lost = "unread" if short else f"failed: {batch.reason}" if batch.status == "failed" else batch.status
        results = [
            *reading.results,
            *(LineResult(line.custom_id, lost) for line in lines if line.custom_id not in there),
        ]
        self._buy(step, lines, results)
        self._state.collect(batch.part, batch.status, results)

        counts = collections.Counter(result.outcome.split(":")[0] for result in results)
        strange = reading.broken + reading.foreign
        self._say(
            f"batch file {batch.part} {batch.status}: "
            + ", ".join(f"{number} {word}" for word, number in sorted(counts.items()))
            + (f"; {strange} rows could not be read or are not ours" if strange else "")
        )
        asked = {line.custom_id: line for line in lines}
        if self._choices > 1 and any(
            result.outcome == "answered" and len(result.samples) < len(asked[result.custom_id].numbers)
            for result in results
        ):
            self._choices = 1
            self._say("the teacher wrote fewer samples than asked for; what is missing is asked for one by one")
        for result in results:
            own_fault = result.outcome.startswith("failed") or result.outcome == "unread"
            if own_fault or (result.outcome != "answered" and not counts["answered"]):
                failures[asked[result.custom_id].request] += 1
        self._stop_if_hopeless(batch, results, failures)
        return counts["answered"]

    def _stop_if_hopeless(
        self, batch: Finished, results: Sequence[LineResult], failures: collections.Counter[str]
    ) -> None:
        again = "what was answered is kept, the same command asks for the rest"
        fatal = next((result for result in results if result.outcome.startswith("fatal")), None)
        if fatal is not None:
            raise FtcotError(f"batch, request {fatal.custom_id}: {fatal.outcome.removeprefix('fatal: ')}; {again}")
        if batch.status == "failed" and not batch.retry:
            raise FtcotError(f"the API failed the batch: {batch.reason or 'it gave no reason'}; {again}")
        if batch.status == "cancelled":
            raise FtcotError(f"the batch was cancelled at the API; {again}")
        if batch.status == "stopped" and not any(result.outcome == "answered" for result in results):
            raise FtcotError(f"teacher.batch.command answered nothing: {batch.reason}")
        times = max(failures.values(), default=0)
        if times >= self._batch.rounds:
            number = sum(count >= self._batch.rounds for count in failures.values())
            reason = next((result.outcome for result in results if result.outcome != "answered"), "")
            raise FtcotError(f"{number} requests failed in {times} batches in a row ({reason}); {again}")

    def _buy(self, step: Step, lines: Iterable[Line], results: Iterable[LineResult]) -> None:
        """Writes what was answered into the ledger, apart from what a run that was killed here has written."""
        answers = {result.custom_id: result for result in results if result.outcome == "answered"}
        asked = [line for line in lines if line.custom_id in answers]
        have = self._ledger.samples_of([line.request for line in asked])
        intents, outcomes = [], []
        for line in asked:
            result = answers[line.custom_id]
            samples = dict(zip(line.numbers, result.samples, strict=False))
            new = {number: text for number, text in samples.items() if number not in have.get(line.request, {})}
            if new:
                usage = (result.prompt_tokens, result.completion_tokens)
                intents.append(Intent(line.request, list(new), step.job, self._purse.cost(*usage)))
                outcomes.append(Outcome(0, "answered", line.request, new, usage, self._purse.cost(*usage)))
        attempts = self._ledger.commit(intents, [])
        bought = [
            dataclasses.replace(outcome, attempt=attempt)
            for outcome, attempt in zip(outcomes, attempts, strict=True)
            if attempt is not None
        ]
        self._ledger.commit([], bought)
        if len(bought) < len(outcomes):
            raise FtcotError(
                f"{self._ledger.file}: another process is buying the same samples; wait for it to end and run the same "
                "command again"
            )

    def _check_repeats(self, questions: Sequence[Question]) -> None:
        """Stops before step 2 is bought if the teacher wrote one text again and again."""
        several = 0
        for stock in self._stocks(questions):
            texts = {(sample.text, sample.reasoning) for sample in stock.first.have.values()}
            if len(texts) > 1:
                return
            several += len(stock.first.have) > 1
        if several >= _IDENTICAL_QUESTIONS:
            raise FtcotError(
                f"all rationales of each of {several} questions are identical: the teacher ignores temperature or "
                "seed; check its sampling settings, or set teacher.diversity=1"
            )

    def _report(self, answered: int, under_way: str) -> None:
        self._on_progress(min(self._wanted, self._there + answered), self._wanted, under_way)
