"""Many requests' ledger entries in one transaction: what gathers meanwhile is committed together."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Sequence
from typing import Any

from ftcot_jax.errors import FtcotError
from ftcot_jax.teacher.ledger import BEAT_SECONDS, Intent, Ledger, Outcome, Sample


class GroupCommit:
    """Gathers entries while the disk is busy with the last transaction; the event loop never waits for the disk.

    Statements run on the loop's thread and only COMMIT on another: at each SQL statement Python's lock would be handed
    to and fro, which costs more than the statement.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._loop = asyncio.get_running_loop()
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "ledger")
        self._intents: list[tuple[Intent, asyncio.Future[int | None]]] = []
        self._outcomes: list[Outcome] = []
        self._looks: list[tuple[Sequence[str], asyncio.Future[dict[str, dict[int, Sample]]]]] = []
        self._beat_due = False
        self._scheduled = False
        self._committing: asyncio.Future[None] | None = None

    @contextlib.asynccontextmanager
    async def beating(self) -> AsyncIterator[None]:
        """Keeps this process's claims alive inside, and leaves nothing unwritten behind."""
        pulse = asyncio.create_task(self._beat())
        try:
            yield
        finally:
            pulse.cancel()
            while self._committing is not None:
                await asyncio.wait([self._committing])
            self._thread.shutdown()
            outcomes, self._outcomes = self._outcomes, []
            try:
                self._ledger.commit([], outcomes)
            except sqlite3.Error as error:
                raise _cannot_write(error) from error

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
        if not self._scheduled and self._committing is None:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Writes all that has gathered, reads what is looked for, and leaves the commit to the thread."""
        self._scheduled = False
        waiting, self._intents = self._intents, []
        outcomes, self._outcomes = self._outcomes, []
        looks, self._looks = self._looks, []
        writing = bool(waiting or outcomes or self._beat_due)
        try:
            attempts = self._ledger.write([intent for intent, _ in waiting], outcomes) if writing else []
            if self._beat_due:
                self._ledger.beat()
            found = self._ledger.samples_of([request for requests, _ in looks for request in requests])
        except sqlite3.Error as error:
            self._failed(error, waiting, outcomes)
            for _, look in looks:
                _settle(look, problem=_cannot_write(error))
            return
        self._beat_due = False
        for requests, look in looks:
            _settle(look, {request: found[request] for request in requests if request in found})
        if writing:
            self._committing = self._loop.run_in_executor(self._thread, self._ledger.settle)
            self._committing.add_done_callback(lambda done: self._committed(done, waiting, attempts, outcomes))

    def _committed(
        self,
        done: asyncio.Future[None],
        waiting: list[tuple[Intent, asyncio.Future[int | None]]],
        attempts: list[int | None],
        outcomes: list[Outcome],
    ) -> None:
        self._committing = None
        error = done.exception()
        if isinstance(error, sqlite3.Error):
            self._failed(error, waiting, outcomes)
            return
        for (_, future), attempt in zip(waiting, attempts, strict=True):
            if future.done() and attempt is not None:  # whoever asked was cancelled before anything was sent
                self._outcomes.append(Outcome(attempt, "failed: not sent"))
            _settle(future, attempt)
        if self._intents or self._outcomes or self._looks or self._beat_due:
            self._flush()

    def _failed(
        self,
        error: sqlite3.Error,
        waiting: list[tuple[Intent, asyncio.Future[int | None]]],
        outcomes: list[Outcome],
    ) -> None:
        """Keeps outcomes for the next transaction, if there is one; intents are refused: nothing is sent for them."""
        self._outcomes = outcomes + self._outcomes
        for _, future in waiting:
            _settle(future, problem=_cannot_write(error))

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            self._beat_due = True
            self._schedule()


def _settle(future: asyncio.Future[Any], value: Any = None, problem: Exception | None = None) -> None:
    if future.done():
        return
    if problem is None:
        future.set_result(value)
    else:
        future.set_exception(problem)


def _cannot_write(error: sqlite3.Error) -> FtcotError:
    return FtcotError(
        f"the ledger cannot be written ({error}); what was bought before is in it: make room and run the same command "
        "again"
    )
