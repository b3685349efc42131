"""A teacher sampled over a whole question set: texts at temperature, then their answers at zero."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import signal
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import aiohttp
import uvloop

from ftcot_jax.errors import FtcotError, Preempted
from ftcot_jax.tasks.question import Question
from ftcot_jax.teacher.buyer import Buyer, Step, Taken, Want
from ftcot_jax.teacher.completion import Completion
from ftcot_jax.teacher.endpoint import Abilities, Endpoint, Unreachable
from ftcot_jax.teacher.fleet import Fleet
from ftcot_jax.teacher.group_commit import GroupCommit
from ftcot_jax.teacher.ledger import Account, Ledger
from ftcot_jax.teacher.loopback import serve_weekday_teacher
from ftcot_jax.teacher.money import Purse, price_of
from ftcot_jax.teacher.plan import ZERO_SHOT_COT, PromptPlan
from ftcot_jax.teacher.probe import describe, probe
from ftcot_jax.teacher.settings import TeacherSettings
from ftcot_jax.teacher.stock import Stock, Stockroom
from ftcot_jax.teacher.tally import Tally
from ftcot_jax.teacher.wire import Refused

_IDENTICAL_QUESTIONS = 5
_OPEN_QUESTIONS_PER_PLACE = 2
_SECONDS_BETWEEN_TALLIES = 0.25
_FIRST_LOOK_SECONDS = 0.2
_LONGEST_LOOK_SECONDS = 5.0

Progress = Callable[[Tally], None]
Say = Callable[[str], None]


class Interrupted(FtcotError):
    """Ctrl-C: what was in flight has been waited for."""

    exit_code = 130


class Purchases(Collection[Completion]):
    """The completions a ledger holds, read anew at each pass: a million of them need no memory.

    Args:
      settings: the teacher.
      questions: whose completions, in the order wanted.
      ledger: the SQLite file.
      plan: how the teacher was asked.
      dataset: as sampled.
    """

    def __init__(
        self,
        settings: TeacherSettings,
        questions: Sequence[Question],
        ledger: Path,
        plan: PromptPlan = ZERO_SHOT_COT,
        dataset: str = "",
    ) -> None:
        self._given = (settings, plan, dataset)
        self._questions, self._ledger = questions, ledger
        self._count: int | None = None

    def __iter__(self) -> Iterator[Completion]:
        settings, plan, dataset = self._given
        count = 0
        with contextlib.closing(Ledger(self._ledger)) as ledger:
            stockroom = Stockroom(settings, plan, ledger, dataset)
            for block in stockroom.blocks(self._questions):
                for stock in block:
                    for row in stockroom.completions(stock):
                        count += 1
                        yield row
        self._count = count

    def __len__(self) -> int:
        if self._count is None:
            self._count = sum(1 for _ in self)
        return self._count

    def __contains__(self, row: object) -> bool:
        return any(row == other for other in self)


@dataclasses.dataclass(frozen=True)
class Sampled:
    """What a teacher wrote.

    Attributes:
      completions: in the questions' order, by completion index.
      refused: sample index to the server's reason, for questions some of whose samples it will not give.
      account: the ledger's counts afterwards.
      report: rows of (dataset, step, answered attempts, prompt tokens, completion tokens, US dollars).
    """

    completions: Collection[Completion]
    refused: dict[int, str]
    account: Account
    report: list[tuple[str, str, int, int, int, float]]


def sample(
    settings: TeacherSettings,
    questions: Sequence[Question],
    ledger: Path,
    on_progress: Progress | None = None,
    *,
    plan: PromptPlan = ZERO_SHOT_COT,
    dataset: str = "",
    say: Say = lambda line: None,
) -> Sampled:
    """Brings `settings.diversity` completions of every question, buying only what the ledger lacks.

    Args:
      settings: the teacher, with endpoints or a loopback.
      questions: what to ask; taken one after another, as there is room.
      ledger: the SQLite file of purchases; made if missing.
      on_progress: called some times a second.
      plan: the prompts.
      dataset: names the purchases in the report.
      say: receives lines about what had to be worked around.

    Raises:
      UsageError: the settings do not fit the endpoint.
      FtcotError: the endpoint cannot be used, or the budget is spent; everything bought so far is in the ledger.
      Interrupted, Preempted: Ctrl-C or SIGTERM; requests in flight were waited for, unless it came twice.
    """
    price = price_of(settings)
    with _served(settings) as urls, contextlib.closing(Ledger(ledger)) as book:
        account = book.account()
        purse = Purse(price, settings.budget, account.cost + account.perhaps_cost)
        run = _Run(settings, Stockroom(settings, plan, book, dataset), book, purse, questions, on_progress, say)
        with _few_collections(), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            refused = runner.run(run.sample(urls))
        account, report = book.account(), book.report()
    return Sampled(Purchases(settings, questions, ledger, plan, dataset), refused, account, report)


@contextlib.contextmanager
def _few_collections() -> Iterator[None]:
    """Keeps Python's collector off the objects of everything imported: it would take a third of the client's time."""
    thresholds = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(20_000, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


@contextlib.contextmanager
def _served(settings: TeacherSettings) -> Iterator[tuple[str, ...]]:
    if settings.loopback is None:
        yield settings.endpoints
        return
    with serve_weekday_teacher(settings.seed or 0, settings.slip_rate, settings.wordings, settings.orders) as url:
        yield (url,)


class _Run:
    """One call of `sample`."""

    def __init__(
        self,
        settings: TeacherSettings,
        stockroom: Stockroom,
        ledger: Ledger,
        purse: Purse,
        questions: Sequence[Question],
        on_progress: Progress | None,
        say: Say,
    ) -> None:
        self._settings, self._stockroom, self._ledger, self._purse = settings, stockroom, ledger, purse
        self._questions, self._on_progress, self._say = questions, on_progress, say
        self._done = 0
        self._refused: dict[int, str] = {}
        self._buying: set[str] = set()
        self._repeats = _Repeats(settings)
        self._tasks: set[asyncio.Task[None]] = set()

    async def sample(self, urls: Sequence[str]) -> dict[int, str]:
        # As many connections as requests: the endpoints' own limits say how many that is.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
        async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
            endpoints = [Endpoint(session, self._settings, url) for url in urls]
            self._fleet = Fleet(await self._probed(endpoints))
            self._commits = GroupCommit(self._ledger)
            async with self._commits.beating():
                self._buyer = Buyer(self._settings, self._fleet, self._commits, self._purse)
                ticker = asyncio.create_task(self._tick())
                with self._signals():
                    try:
                        await self._feed()
                        while self._tasks:
                            await asyncio.wait(self._tasks)
                    finally:
                        for task in self._tasks:
                            task.cancel()
                        await asyncio.gather(*self._tasks, return_exceptions=True)
                        ticker.cancel()
        self._show()
        if self._fleet.stopped is not None:
            raise self._fleet.stopped
        return self._refused

    async def _probed(self, endpoints: list[Endpoint]) -> list[Endpoint]:
        """The endpoints that are there, with their abilities.

        Raises:
          FtcotError: none is, or they return the same text for every sample.
        """
        if self._settings.loopback is not None:
            endpoints[0].abilities = Abilities(prompt_lists=True)
            return endpoints
        prompt = self._stockroom.plan.first(self._questions[0]) if len(self._questions) else "1 + 1 ="
        job = self._ledger.job("", "probe")
        asked = [probe(one, self._settings, prompt, self._ledger, self._purse, job) for one in endpoints]
        up, down, problems = [], [], []
        for endpoint, found in zip(endpoints, await asyncio.gather(*asked, return_exceptions=True), strict=True):
            if isinstance(found, Abilities):
                endpoint.abilities = found
                up.append(endpoint)
                if line := describe(endpoint):
                    self._say(line)
            elif isinstance(found, FtcotError):
                problems.append(found)
                if isinstance(found, Unreachable):
                    down.append(endpoint)
            else:
                raise found
        if not up:
            raise problems[0]
        for problem in problems:
            self._say(f"going on without it for now: {problem}")
        if self._settings.diversity > 1 and any(endpoint.abilities.distinct is False for endpoint in up):
            self._say("two samples of the probe were identical; the run stops if those of the first questions are too")
        for endpoint in down:  # perhaps it comes up later; it serves the same model, so the same should work
            endpoint.abilities = up[0].abilities
            endpoint.set_aside()
        return up + down

    async def _feed(self) -> None:
        """Opens questions as long as places are free; holds a block of them at a time."""
        open_questions = asyncio.Semaphore(
            _OPEN_QUESTIONS_PER_PLACE * self._settings.concurrency * len(self._fleet.endpoints)
        )
        for block in self._stockroom.blocks(self._questions, texts=False):
            seen = self._ledger.changes
            for stock in block:
                if stock.complete:
                    self._finish(stock)
                    continue
                await self._fleet.room()
                await open_questions.acquire()
                if self._fleet.stopped is not None:
                    return
                task = asyncio.create_task(self._work(stock, seen))
                self._tasks.add(task)
                task.add_done_callback(lambda _: open_questions.release())
                task.add_done_callback(self._ended)
            await asyncio.sleep(0)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (problem := task.exception()) is not None:
            self._fleet.stop(problem)

    async def _work(self, stock: Stock, seen: int) -> None:
        """All steps of one question; a step that is refused leaves what else there is."""
        await self._fill(stock, self._stockroom.first, [stock.first], seen)
        self._repeats.note(stock.first)
        seen = self._ledger.changes
        if new := self._stockroom.ask_for_answers(stock):
            self._stockroom.put(new, await self._commits.look([want.request for want in new]))
        missing = [want for want in stock.answers.values() if want.numbers]
        if missing:
            await self._fill(stock, self._stockroom.second, missing, seen)
        self._finish(stock)

    async def _fill(self, stock: Stock, step: Step, wants: list[Want], seen: int) -> None:
        """Buys what is missing; awaits what another question of the same prompt, or another process, is buying."""
        looks = 0
        while wants := [want for want in wants if want.numbers]:
            free = {want.request for want in wants} - self._buying
            ours = [want for want in wants if want.request in free]
            taken = len(ours) < len(wants)
            self._buying |= free
            try:
                if ours:
                    await self._buyer.fill(step, ours, seen)
            except Refused as reason:
                self._refused[stock.question.sample_index] = str(reason)
                return
            except Taken:
                taken = True
            finally:
                self._buying -= free
            if taken:
                looks += 1
                await self._fleet.pause(min(_LONGEST_LOOK_SECONDS, _FIRST_LOOK_SECONDS * 1.5**looks))
                seen = self._ledger.changes
                bought = await self._commits.look([want.request for want in wants])
                for want in wants:
                    want.have.update(bought.get(want.request, {}))
            for want in wants:
                numbers = range(self._settings.diversity) if step is self._stockroom.first else (0,)
                want.numbers = [number for number in numbers if number not in want.have]

    def _finish(self, stock: Stock) -> None:
        self._done += stock.question.sample_index not in self._refused

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM: nothing new is sent, what is in flight is waited for; the second time nothing is."""
        loop, this = asyncio.get_running_loop(), asyncio.current_task()
        assert this is not None

        def heard(kind: type[FtcotError]) -> None:
            if self._fleet.stopped is not None:
                this.cancel()
                return
            self._say(
                f"stopping: waiting for {self._fleet.in_flight} requests in flight (once more: not even for those)"
            )
            self._fleet.stop(
                kind(
                    f"stopped with {self._done} of {len(self._questions)} questions done; everything bought is in the "
                    "ledger, run the same command to go on"
                )
            )

        kinds: dict[signal.Signals, type[FtcotError]] = {signal.SIGINT: Interrupted, signal.SIGTERM: Preempted}
        try:
            for number, kind in kinds.items():
                loop.add_signal_handler(number, heard, kind)
        except (ValueError, RuntimeError, NotImplementedError):  # not the main thread: its owner hears signals
            yield
            return
        before = signal.getsignal(signal.SIGTERM)
        try:
            yield
        except asyncio.CancelledError:
            raise self._fleet.stopped or KeyboardInterrupt from None
        finally:
            for number in kinds:
                loop.remove_signal_handler(number)
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)

    async def _tick(self) -> None:
        while True:
            self._show()
            await asyncio.sleep(_SECONDS_BETWEEN_TALLIES)

    def _show(self) -> None:
        if self._on_progress is None:
            return
        counts = self._buyer.counts
        self._on_progress(
            Tally(
                done=self._done,
                total=len(self._questions),
                refused=len(self._refused),
                in_flight=self._fleet.in_flight,
                concurrency=self._fleet.limit,
                retries=counts.retries,
                tokens=counts.prompt_tokens + counts.completion_tokens,
                cost=self._purse.spent if self._purse.priced else None,
            )
        )


class _Repeats:
    """Stops a run whose endpoint returns the same text for every sample: it ignores temperature or seed."""

    def __init__(self, settings: TeacherSettings) -> None:
        self._watching = settings.diversity > 1
        self._identical = 0

    def note(self, first: Want) -> None:
        if not self._watching or len(first.have) < 2:
            return
        if len({(sample.text, sample.reasoning) for sample in first.have.values()}) > 1:
            self._watching = False
            return
        self._identical += 1
        if self._identical >= _IDENTICAL_QUESTIONS:
            raise FtcotError(
                f"all {len(first.have)} texts of each of the first {self._identical} questions are identical: the "
                "endpoint ignores temperature or seed; check its sampling settings, or set teacher.diversity=1"
            )
