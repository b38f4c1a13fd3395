"""Counts that go into the audit log once a minute, where a line for each request would fill it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

MINUTE = 60.0
MAX_LINES = 100  # a minute; the names beyond share one
OTHERS = "others"


class Tally:
    """Counts by name, each recorded once a minute.

    Args:
        record: gets a name and its count. The names past MAX_LINES are counted under OTHERS.
    """

    def __init__(self, record: Callable[[str, int], None]) -> None:
        self._record = record
        self._counts: Counter[str] = Counter()

    def count(self, name: str) -> None:
        """Count one. The server's event loop must run."""
        if not self._counts:
            asyncio.get_running_loop().call_later(MINUTE, self.flush)
        known = name in self._counts or len(self._counts) < MAX_LINES
        self._counts[name if known else OTHERS] += 1

    def flush(self) -> None:
        """Record what was counted since the last time."""
        counts, self._counts = self._counts, Counter()
        for name, count in counts.items():
            self._record(name, count)
