"""SIGTERM, as a training process takes it: while it trains, at the end of a step; otherwise at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

EXIT_CODE = 128 + signal.SIGTERM


class Interrupt:
    """Asks for the end of the process."""

    def __init__(self) -> None:
        self.asked = False
        self._deferred = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take SIGTERM during the block, which is in the main thread."""
        before = signal.signal(signal.SIGTERM, self._take)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Let the block look at `asked`, and end by itself, instead of being ended."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def _take(self, *_: Any) -> None:
        self.asked = True
        if not self._deferred:
            raise SystemExit(EXIT_CODE)
