"""How fast an endpoint may be asked: requests in flight found by trying, and its requests and tokens a minute.

Times are seconds of the event loop's monotonic clock, so that a wall clock that jumps changes nothing.
"""

from __future__ import annotations

import random

_FIRST_LIMIT = 20.0
_SHRINK = 0.7
_BURST_SECONDS = 2.0


class AdaptiveLimit:
    """Requests in flight: doubled each round trip until the first throttle, then one more a round trip.

    A throttle cuts them: additive increase, multiplicative decrease, as TCP does it.

    Attributes:
      in_flight: requests now.
    """

    def __init__(self, largest: int) -> None:
        self._largest = float(largest)
        self._limit = min(_FIRST_LIMIT, self._largest)
        self._throttled_before = False
        self._cut_at = float("-inf")
        self.in_flight = 0

    @property
    def limit(self) -> int:
        """Requests in flight at most."""
        return int(self._limit)

    @property
    def free(self) -> bool:
        return self.in_flight < int(self._limit)

    def succeeded(self) -> None:
        """Called before the request leaves `in_flight`; grows only where the limit is what holds requests back."""
        if self.in_flight >= int(self._limit):
            step = 1.0 / self._limit if self._throttled_before else 1.0
            self._limit = min(self._largest, self._limit + step)

    def throttled(self, sent_at: float, now: float) -> None:
        """Cuts the limit once for all requests that were under way when it was cut."""
        if sent_at < self._cut_at:
            return
        self._throttled_before = True
        self._cut_at = now
        self._limit = max(1.0, min(self._limit, self.in_flight) * _SHRINK)


class Bucket:
    """An allowance that fills evenly; what is taken beyond it is waited for afterwards.

    Args:
      per_minute: the allowance; None: no limit.
      now: the clock.
    """

    def __init__(self, per_minute: float | None, now: float) -> None:
        self._rate = None if per_minute is None else per_minute / 60.0
        self._capacity = 0.0 if self._rate is None else max(1.0, self._rate * _BURST_SECONDS)
        self._level, self._at = self._capacity, now

    def wait(self, amount: float, now: float) -> float:
        """Seconds until `amount` may be taken; an amount above the capacity waits for a full bucket."""
        if self._rate is None:
            return 0.0
        self._fill(now)
        return max(0.0, (min(amount, self._capacity) - self._level) / self._rate)

    def take(self, amount: float, now: float) -> None:
        """Takes an amount; a negative one gives back what turned out not to be needed."""
        if self._rate is not None:
            self._fill(now)
            self._level = min(self._capacity, self._level - amount)

    def _fill(self, now: float) -> None:
        assert self._rate is not None
        self._level = min(self._capacity, self._level + (now - self._at) * self._rate)
        self._at = now


def backoff(tries: int, first: float, longest: float) -> float:
    """A doubling wait in seconds with up to half of it more, so that those who failed together part ways."""
    return min(longest, first * 2 ** (tries - 1)) * (1 + random.random() / 2)
