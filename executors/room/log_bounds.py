"""Bounds the log of a process: no caller can fill a disk with lines of one kind."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import cache

from finetuner.executors.room.jina_internals import filter_log

LINES, SECONDS = 10, 60.0

Kind = tuple[str, str, int, str]
"""Logger, file, line, and class of the exception: a set that no caller can make larger."""


class LogBounds:
    """At most LINES warnings or errors of a kind in SECONDS. The next one says how many were left out.

    Args:
        clock: a monotonic clock in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._since: dict[Kind, float] = {}
        self._lines: Counter[Kind] = Counter()

    def admit(self, record: logging.LogRecord) -> bool:
        """Return whether a line goes into the log. Its text may change. No request causes one below WARNING."""
        if record.levelno < logging.WARNING:
            return True
        raised = record.exc_info[0] if record.exc_info else None
        kind = record.name, record.pathname, record.lineno, getattr(raised, "__name__", "")
        with self._lock:
            now, left_out = self._clock(), 0
            if now >= self._since.get(kind, -SECONDS) + SECONDS:
                left_out = max(0, self._lines.pop(kind, 0) - LINES)
                self._since[kind] = now
            self._lines[kind] += 1
            lines = self._lines[kind]
        if lines > LINES:
            return False
        if left_out:
            _add(record, f"after {left_out} others that were left out")
        elif lines == LINES:
            _add(record, f"further ones are left out for up to {SECONDS:g} s")
        return True


def _add(record: logging.LogRecord, text: str) -> None:
    record.msg, record.args = f"{record.getMessage()} ({text})", ()


@cache
def bound_log() -> None:
    """Bound the log of this process."""
    filter_log(LogBounds().admit)
