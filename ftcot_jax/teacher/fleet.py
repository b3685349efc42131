"""Several endpoints of one model: each request goes where it is expected to be answered first."""

from __future__ import annotations

import asyncio
import collections
import contextlib
from collections.abc import Sequence

from ftcot_jax.teacher.endpoint import Endpoint


class Fleet:
    """Hands out places on endpoints, first come first served.

    Attributes:
      endpoints: all of them, those set aside too.
      stopped: why no more places are given, or None.
    """

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        self.endpoints = list(endpoints)
        self.stopped: BaseException | None = None
        self._loop = asyncio.get_running_loop()
        self._waiting: collections.deque[tuple[float, asyncio.Future[Endpoint]]] = collections.deque()
        self._timer: asyncio.TimerHandle | None = None
        self._room = asyncio.Event()
        self._room.set()
        self._stopping = asyncio.Event()

    @property
    def in_flight(self) -> int:
        return sum(endpoint.limit.in_flight for endpoint in self.endpoints)

    @property
    def limit(self) -> int:
        """Requests in flight at most, over the endpoints that are up."""
        return sum(endpoint.limit.limit for endpoint in self.endpoints if not endpoint.on_trial)

    @property
    def failed_rounds(self) -> int:
        """Times in a row that every endpoint has been set aside: no request of any kind gets through."""
        return min(endpoint.failed_rounds for endpoint in self.endpoints)

    async def place(self, tokens: float) -> Endpoint:
        """Waits for a place for a request of about so many tokens; give it back with `give_back`.

        Raises:
          BaseException: `stopped`, whatever it is.
        """
        if self.stopped is not None:
            raise self.stopped
        if not self._waiting:
            endpoint, _ = self._best(tokens)
            if endpoint is not None:
                endpoint.reserve(tokens)
                return endpoint
        future: asyncio.Future[Endpoint] = self._loop.create_future()
        self._waiting.append((tokens, future))
        self._room.clear()
        self._serve()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and future.exception() is None:
                self.give_back(future.result())
            raise

    def give_back(self, endpoint: Endpoint) -> None:
        """Ends a request's stay; whoever waits is served."""
        endpoint.release()
        if self._waiting:
            self._serve()

    def stop(self, reason: BaseException) -> None:
        """Gives no more places; requests in flight go on to their end."""
        if self.stopped is None:
            self.stopped = reason
            self._stopping.set()
        while self._waiting:
            _, future = self._waiting.popleft()
            if not future.done():
                future.set_exception(self.stopped)
        self._room.set()

    async def pause(self, seconds: float) -> None:
        """Sleeps, unless or until there is a reason to stop.

        Raises:
          BaseException: `stopped`, whatever it is.
        """
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
        if self.stopped is not None:
            raise self.stopped

    async def room(self) -> None:
        """Waits until nobody waits: the time to bring more work."""
        await self._room.wait()

    def _best(self, tokens: float) -> tuple[Endpoint | None, float]:
        """The free endpoint of least expected finishing time, or None and the seconds until one may be free."""
        best: Endpoint | None = None
        least, soonest = (0.0, 0), float("inf")
        for endpoint in self.endpoints:
            if not endpoint.limit.free or (endpoint.on_trial and endpoint.limit.in_flight):
                continue  # a request that ends will call again
            wait = endpoint.wait(tokens)
            if wait > 0:
                soonest = min(soonest, wait)
                continue
            expected = (endpoint.expected_seconds(), endpoint.limit.in_flight)
            if best is None or expected < least:
                best, least = endpoint, expected
        return best, soonest

    def _serve(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            tokens, future = self._waiting[0]
            if future.done():  # cancelled
                self._waiting.popleft()
                continue
            endpoint, wait = self._best(tokens)
            if endpoint is None:
                if wait < float("inf"):
                    self._timer = self._loop.call_later(wait + 1e-4, self._serve)
                return
            self._waiting.popleft()
            endpoint.reserve(tokens)
            future.set_result(endpoint)
        self._room.set()
