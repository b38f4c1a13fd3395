"""Waiting until something is where a test wants it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

SECONDS = 200.0


def wait_until(there: Callable[[], Any], what: str) -> None:
    """Return as soon as it is there; fail with its name where it does not come."""
    deadline = time.monotonic() + SECONDS
    while not there():
        assert time.monotonic() < deadline, f"{what}: not within {SECONDS:g} s"
        time.sleep(0.02)
