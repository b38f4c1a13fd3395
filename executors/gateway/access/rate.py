"""So many requests a second for each token, and twice that at once."""

from __future__ import annotations

import time
from collections.abc import Callable

BURST_SECONDS = 2.0


class Rate:
    """A bucket for each name: a request takes one drop, and time fills it again.

    Args:
        limit: requests a second; 0 lets everything pass.
        clock: seconds that only grow.
    """

    def __init__(self, limit: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._most = max(limit * BURST_SECONDS, 1.0)  # below one, nothing would ever pass
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}  # name -> drops, and when they were counted

    def wait(self, name: str) -> float:
        """Take one request of `name`; return 0, or how many seconds until the next one may pass."""
        if not self._limit:
            return 0.0
        now = self._clock()
        drops, counted = self._buckets.get(name, (self._most, now))
        drops = min(drops + (now - counted) * self._limit, self._most)
        passes = drops >= 1.0
        self._buckets[name] = (drops - passes, now)
        return 0.0 if passes else (1.0 - drops) / self._limit
