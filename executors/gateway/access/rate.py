"""Rate limiting with one token bucket per access token."""

from __future__ import annotations

import time
from collections.abc import Callable

BURST_SECONDS = 2.0


class TokenBuckets:
    """One token bucket for each name: a request removes one token, and `limit` tokens a second come back.

    A bucket holds the tokens of BURST_SECONDS.

    Args:
        limit: requests per second; 0 for no limit.
        clock: a monotonic clock in seconds.
    """

    def __init__(self, limit: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._capacity = max(limit * BURST_SECONDS, 1.0)  # below 1, no request would ever pass
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}  # name -> tokens, and the time of that count

    def wait(self, name: str) -> float:
        """Remove one token from the bucket of `name`.

        Returns:
            0 if there was a token, else the seconds until the next one.
        """
        if not self._limit:
            return 0.0
        now = self._clock()
        tokens, counted = self._buckets.get(name, (self._capacity, now))
        tokens = min(tokens + (now - counted) * self._limit, self._capacity)
        passes = tokens >= 1.0
        self._buckets[name] = (tokens - passes, now)
        return 0.0 if passes else (1.0 - tokens) / self._limit
