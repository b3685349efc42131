"""Many requests' ledger entries in one transaction: what gathers while the event loop turns is committed together."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Sequence

from ftcot_jax.errors import FtcotError
from ftcot_jax.teacher.ledger import BEAT_SECONDS, Intent, Ledger, Outcome, Sample


class GroupCommit:
    """Commits from the event loop itself, once a turn at most.

    A thread of its own would lose more to handing Python's lock to and fro at each SQL statement than the disk takes;
    and where the disk is slow, more entries gather for the next transaction.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._loop = asyncio.get_running_loop()
        self._intents: list[tuple[Intent, asyncio.Future[int | None]]] = []
        self._outcomes: list[Outcome] = []
        self._looks: list[tuple[Sequence[str], asyncio.Future[dict[str, dict[int, Sample]]]]] = []
        self._scheduled = False

    @contextlib.asynccontextmanager
    async def beating(self) -> AsyncIterator[None]:
        """Keeps this process's claims alive inside, and leaves nothing unwritten behind."""
        pulse = asyncio.create_task(self._beat())
        try:
            yield
        finally:
            pulse.cancel()
            self._flush()
            if self._outcomes:
                raise FtcotError(f"the ledger cannot be written; {len(self._outcomes)} answers are lost with it")

    def intend(self, intent: Intent) -> asyncio.Future[int | None]:
        """An attempt's id once it is on the disk; None if another process has or is buying one of the samples."""
        future: asyncio.Future[int | None] = self._loop.create_future()
        self._intents.append((intent, future))
        self._schedule()
        return future

    def look(self, requests: Sequence[str]) -> asyncio.Future[dict[str, dict[int, Sample]]]:
        """`Ledger.samples_of`, read together with what others look for."""
        future: asyncio.Future[dict[str, dict[int, Sample]]] = self._loop.create_future()
        self._looks.append((requests, future))
        self._schedule()
        return future

    def note(self, outcome: Outcome) -> None:
        """Writes an outcome with the next transaction."""
        self._outcomes.append(outcome)
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        if self._looks:
            self._read()
        if not self._intents and not self._outcomes:
            return
        waiting, outcomes = self._intents, self._outcomes
        self._intents = []
        try:
            attempts = self._ledger.commit([intent for intent, _ in waiting], outcomes)
        except sqlite3.Error as error:
            problem = FtcotError(
                f"the ledger cannot be written ({error}); what was bought before is in it: make room and run the same "
                "command again"
            )
            for _, future in waiting:
                if not future.done():
                    future.set_exception(problem)
            return  # outcomes are kept for the next transaction, if there is one
        self._outcomes = []
        for (_, future), attempt in zip(waiting, attempts, strict=True):
            if not future.done():
                future.set_result(attempt)
            elif attempt is not None:  # whoever asked was cancelled before anything was sent
                self.note(Outcome(attempt, "failed: not sent"))

    def _read(self) -> None:
        looks, self._looks = self._looks, []
        found = self._ledger.samples_of([request for requests, _ in looks for request in requests])
        for requests, future in looks:
            if not future.done():
                future.set_result({request: found[request] for request in requests if request in found})

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            with contextlib.suppress(sqlite3.Error):  # the next commit will say so, if it lasts
                self._ledger.beat()
