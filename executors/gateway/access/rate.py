"""Rate limiting with one token bucket per access token, or per address."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

BURST_SECONDS = 2.0


class TokenBuckets:
    """One token bucket for each name: a request removes one token, and `limit` tokens a second come back.

    Args:
        limit: requests per second; 0 for no limit.
        clock: a monotonic clock in seconds.
        burst: seconds whose tokens a bucket holds.
        most: buckets that are kept; a further one replaces the bucket that was unused for longest.
    """

    def __init__(
        self,
        limit: float,
        clock: Callable[[], float] = time.monotonic,
        burst: float = BURST_SECONDS,
        most: int = 100_000,
    ) -> None:
        self._limit = limit
        self._capacity = max(limit * burst, 1.0)  # below 1, no request would ever pass
        self._clock = clock
        self._most = most
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # name -> tokens, and time of that count

    def wait(self, name: str) -> float:
        """Remove one token from the bucket of `name`.

        Returns:
            0 if there was a token, else the seconds until the next one.
        """
        if not self._limit:
            return 0.0
        now = self._clock()
        tokens, counted = self._buckets.pop(name, (self._capacity, now))
        tokens = min(tokens + (now - counted) * self._limit, self._capacity)
        passes = tokens >= 1.0
        self._buckets[name] = (tokens - passes, now)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        return 0.0 if passes else (1.0 - tokens) / self._limit
