"""Buying samples: each request an intent in the ledger, then on the wire, then an outcome; sent again if that helps."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import Any

from ftcot_jax.errors import FtcotError
from ftcot_jax.teacher.endpoint import Endpoint
from ftcot_jax.teacher.fleet import Fleet
from ftcot_jax.teacher.group_commit import GroupCommit
from ftcot_jax.teacher.identity import IdentityMaker
from ftcot_jax.teacher.ledger import Intent, Outcome, Sample
from ftcot_jax.teacher.limits import backoff
from ftcot_jax.teacher.money import Purse, prompt_tokens
from ftcot_jax.teacher.settings import TeacherSettings
from ftcot_jax.teacher.wire import Answer, Lost, Passing, Refused, Throttled, Wire

_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 60.0
_PATIENCE_SECONDS = 900.0
_PROMPTS_A_REQUEST = 20


class Taken(Exception):
    """Another process has bought, or is buying, one of the samples: look again in the ledger."""


class Step:
    """One kind of request: its sampling settings, its format, and its place in the report.

    Args:
      settings: the teacher.
      sampling: temperature, max_tokens and, if any, stop: what goes into both identity and request.
      job: from `Ledger.job`.

    Attributes:
      identity: from a prompt to its request's identity.
    """

    def __init__(self, settings: TeacherSettings, sampling: Mapping[str, Any], job: int) -> None:
        self.identity = IdentityMaker(settings.writer(), sampling)
        self.wire = Wire(settings.api == "chat", settings.model_name, sampling)
        self.job = job
        self.max_tokens = int(sampling["max_tokens"])


@dataclasses.dataclass(slots=True)
class Want:
    """Samples missing of one prompt; `have` is filled as they come."""

    prompt: str
    request: str
    numbers: list[int]
    have: dict[int, Sample]


@dataclasses.dataclass(slots=True)
class Counts:
    """What this run did: requests answered, tokens, retries by reason."""

    requests: int = 0
    samples: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    retries: int = 0


class Buyer:
    """Buys through a fleet of endpoints and a ledger.

    Attributes:
      counts: of this run.
    """

    def __init__(self, settings: TeacherSettings, fleet: Fleet, commits: GroupCommit, purse: Purse) -> None:
        self._settings, self._fleet, self._commits, self._purse = settings, fleet, commits, purse
        self._loop = asyncio.get_running_loop()
        self._answered_at = self._loop.time()
        self.counts = Counts()

    async def fill(self, step: Step, wants: Sequence[Want], seen: int) -> None:
        """Buys all of the missing samples; requests go side by side, and what one brings stays if another fails.

        Args:
          step: the kind of request.
          wants: what is missing of each prompt.
          seen: `Ledger.changes` when it was found missing.

        Raises:
          Refused: the server will not answer one of the prompts.
          Taken: another process is buying some of it.
          FtcotError: the endpoint cannot be used any more.
        """
        parcels = list(self._parcels(wants))
        if len(parcels) == 1:
            await self._buy(step, parcels[0], seen)
            return
        await self._side_by_side(self._buy(step, parcel, seen) for parcel in parcels)

    def _parcels(self, wants: Sequence[Want]) -> Iterable[list[Want]]:
        """What goes into one request: n samples of one prompt, or one sample of each of several prompts."""
        abilities = [endpoint.abilities for endpoint in self._fleet.endpoints]
        largest = min(self._settings.samples_per_request, *(one.largest_n for one in abilities))
        lists = len(wants) > 1 and all(one.prompt_lists for one in abilities)
        singles = [want for want in wants if len(want.numbers) == 1] if lists else []
        for start in range(0, len(singles), _PROMPTS_A_REQUEST):
            yield singles[start : start + _PROMPTS_A_REQUEST]
        for want in wants:
            if not singles or len(want.numbers) != 1:
                for start in range(0, len(want.numbers), largest):
                    yield [Want(want.prompt, want.request, want.numbers[start : start + largest], want.have)]

    async def _buy(self, step: Step, parcel: list[Want], seen: int) -> None:
        tries = 0
        while parcel:
            try:
                endpoint = await self._attempt(step, parcel, seen)
            except Throttled as problem:
                self.counts.retries += 1
                if self._loop.time() - self._answered_at > _PATIENCE_SECONDS:
                    self._stop(f"the endpoint answers only {problem}, for {_PATIENCE_SECONDS:.0f} s")
                continue  # the endpoint itself waits before it takes more
            except (Passing, Lost) as problem:
                self.counts.retries += 1
                tries += 1
                tries = max(tries, self._fleet.failed_rounds)
                if tries >= self._settings.attempts:
                    self._stop(f"{problem.args[-1]} failed {tries} times in a row ({problem.args[0]})")
                await self._fleet.pause(backoff(tries, _FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS))
                continue
            except Refused as problem:
                await self._ask_for_less(step, parcel, seen, problem)
                return
            except FtcotError as problem:
                self._fleet.stop(problem)
                raise
            tries = 0
            parcel = [want for want in parcel if want.numbers]
            if parcel and max(len(want.numbers) for want in parcel) > endpoint.abilities.largest_n:
                await self.fill(step, parcel, seen)
                return

    async def _attempt(self, step: Step, parcel: list[Want], seen: int) -> Endpoint:
        """One request: a place, an intent, the wire, an outcome; returns the endpoint that answered."""
        count, seed = len(parcel[0].numbers), self._settings.seed if self._settings.send_seed else None
        if seed is not None:
            # Samples asked for later, or again, must not repeat those of an earlier request.
            seed = (seed * 1_000_003 + parcel[0].numbers[0]) % 2**31
        sizes = [(prompt_tokens(want.prompt), float(len(want.numbers) * step.max_tokens)) for want in parcel]
        limits = [self._purse.cost(*size) for size in sizes]
        reserved = None if limits[0] is None else sum(limit or 0.0 for limit in limits)
        tokens = sum(map(sum, sizes))
        await self._purse.reserve(reserved)
        endpoint: Endpoint | None = None
        attempts: list[int | None] = []
        state, cost = "failed: not sent", None
        try:
            endpoint = await self._fleet.place(tokens)
            intents = [
                Intent(want.request, want.numbers, step.job, limit, seen)
                for want, limit in zip(parcel, limits, strict=True)
            ]
            written = [self._commits.intend(intent) for intent in intents]
            for future in written:
                attempts.append(await future)
            if None in attempts:
                raise Taken
            body = step.wire.request([want.prompt for want in parcel], count, seed)
            state, cost = "unknown: interrupted", reserved
            answer = await endpoint.post(step.wire, body, len(parcel), count, tokens)
            state = ""
            cost = self._book(endpoint, step, parcel, attempts, answer)
        except Lost as problem:
            state = f"unknown: {problem.args[0]}"
            raise
        except (Throttled, Passing, Refused, FtcotError) as problem:
            state, cost = f"failed: {problem.args[0]}", None
            raise
        finally:
            self._purse.settle(reserved, cost)
            if state:
                for attempt in attempts:
                    if attempt is not None:
                        self._commits.note(Outcome(attempt, state))
            if endpoint is not None:
                self._fleet.give_back(endpoint)
        return endpoint

    def _book(
        self, endpoint: Endpoint, step: Step, parcel: list[Want], attempts: Sequence[int | None], answer: Answer
    ) -> float | None:
        """Writes what came, takes it off what is missing, and returns what it cost."""
        self._answered_at = self._loop.time()
        prompt, completion = answer.usage
        if not endpoint.abilities.usage_summed:
            completion *= sum(len(samples) for samples in answer.samples)
        cost = self._purse.cost(prompt, completion)
        self.counts.requests += 1
        self.counts.prompt_tokens += prompt
        self.counts.completion_tokens += completion
        if len(parcel[0].numbers) > 1 and len(answer.samples[0]) == 1:
            self._learn(endpoint, largest_n=1)  # n is ignored: go on with single requests
        usage, share = (prompt, completion), cost
        for want, attempt, samples in zip(parcel, attempts, answer.samples, strict=True):
            assert attempt is not None
            bought = dict(zip(want.numbers, samples, strict=False))
            # An answer to a list of prompts has one usage: it stands with the first.
            self._commits.note(Outcome(attempt, "answered", want.request, bought, usage, share))
            usage, share = (0, 0), None if cost is None else 0.0
            want.have.update(bought)
            want.numbers = want.numbers[len(bought) :]
            self.counts.samples += len(bought)
        return cost

    async def _ask_for_less(self, step: Step, parcel: list[Want], seen: int, problem: Refused) -> None:
        """After a 400: is it n, or the list of prompts, that is too much for this server, or the prompt itself?

        Raises:
          Refused: it is the prompt; its siblings have been bought.
        """
        count = len(parcel[0].numbers)
        if len(parcel) > 1:
            await self._side_by_side(self._buy(step, [want], seen) for want in parcel)
            for endpoint in self._fleet.endpoints:  # each of them alone was taken
                self._learn(endpoint, prompt_lists=False)
        elif count > 1 and "context" not in str(problem):
            want = parcel[0]
            first = Want(want.prompt, want.request, want.numbers[:1], want.have)
            await self._buy(step, [first], seen)
            for endpoint in self._fleet.endpoints:
                self._learn(endpoint, largest_n=max(1, count // 2))
            await self.fill(step, [Want(want.prompt, want.request, want.numbers[1:], want.have)], seen)
        else:
            raise problem

    @staticmethod
    async def _side_by_side(purchases: Iterable[Coroutine[Any, Any, None]]) -> None:
        """Waits for all of them, then raises the gravest of their problems: none stops another."""
        ends = await asyncio.gather(*purchases, return_exceptions=True)
        problems = [end for end in ends if end is not None]
        for kind in (FtcotError, Taken, Refused, BaseException):
            for problem in problems:
                if isinstance(problem, kind):
                    raise problem

    @staticmethod
    def _learn(endpoint: Endpoint, **abilities: Any) -> None:
        endpoint.abilities = dataclasses.replace(endpoint.abilities, **abilities)

    def _stop(self, reason: str) -> None:
        problem = FtcotError(f"{reason}; what was bought is in the ledger, run the same command to go on")
        self._fleet.stop(problem)
        raise problem from None
