"""Handles SIGTERM in a training process: at the end of a step during training, otherwise at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

EXIT_CODE = 128 + signal.SIGTERM


class Interrupt:
    """A request to end the process."""

    def __init__(self) -> None:
        self.asked = False
        self._deferred = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle SIGTERM during the block. It must run in the main thread."""
        before = signal.signal(signal.SIGTERM, self._handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Do not end the block on SIGTERM: it checks `asked` and ends itself."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def _handle(self, *_: Any) -> None:
        self.asked = True
        if not self._deferred:
            raise SystemExit(EXIT_CODE)
