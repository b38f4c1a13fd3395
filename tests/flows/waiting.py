"""Waiting until a Flow is where a test wants it."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx


def documents_in(metrics: str) -> float:
    """Return how many documents an encoder, by the address of its metrics, has admitted and not answered."""
    lines = httpx.get(metrics).text.splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("finetuner_queue_documents")))


def wait_until(there: Callable[[], bool], what: str, seconds: float = 60) -> None:
    """Return as soon as it is there; fail where it does not come."""
    deadline = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < deadline, f"no {what} within {seconds} s"
        time.sleep(0.05)
