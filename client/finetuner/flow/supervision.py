"""Restarts rooms that end, with growing pauses. Jina's local Flow starts a room once and never checks it again."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

# Seconds before a restart, by the number of short lives in a row; further ones repeat the last pause.
PAUSES = (0, 1, 2, 4, 8, 16, 30)
STEADY_SECONDS = 60.0  # a life of at least this length is not short: the pauses start from the first again


class RoomProcess:
    """One process of a Flow: a replica of an executor, or the gateway.

    Args:
        pod: Jina's pod, started.
    """

    def __init__(self, pod: Any) -> None:
        self._pod = pod
        self._started_at = time.monotonic()
        self._short_lives = 0
        self.restart_at: float | None = None
        """Time of the next start on the monotonic clock; None while the process runs."""

    @property
    def sentinel(self) -> int:
        """Handle that `multiprocessing.connection.wait` reports once the process has ended."""
        return int(self._pod.worker.sentinel)

    def schedule_restart(self) -> str:
        """Set `restart_at` after the process has ended; return a line for the log."""
        now = time.monotonic()
        if now - self._started_at >= STEADY_SECONDS:
            self._short_lives = 0
        pause = PAUSES[min(self._short_lives, len(PAUSES) - 1)]
        self._short_lives += 1
        self.restart_at = now + pause
        self._pod.worker.join()
        when = f"in {pause} s" if pause else "now"
        return f"{self._pod.name} has ended ({_reason(self._pod.worker.exitcode)}). It restarts {when}."

    def start(self) -> None:
        """Start the process again with the same ports and settings. Do not wait until it is ready."""
        self._pod = type(self._pod)(self._pod.args)  # a Python process starts only once
        self._pod.start()
        self._started_at, self.restart_at = time.monotonic(), None


def _pods_of(flow: Any) -> Iterator[Any]:
    """Yield the pods of a started Flow."""
    for _, deployment in flow:
        single = (deployment.uses_before_pod, deployment.uses_after_pod, deployment.head_pod, deployment.gateway_pod)
        yield from (pod for pod in single if pod is not None)
        for replicas in deployment.shards.values():
            yield from replicas._pods


def rooms_of(flow: Any) -> list[RoomProcess]:
    """Return the processes of a started Flow, whose pods do not block when they start."""
    return [RoomProcess(pod) for pod in _pods_of(flow)]


def supervise(rooms: Sequence[RoomProcess], stop: Connection, report: Callable[[str], Any]) -> None:
    """Restart every room that ends, until `stop` becomes readable.

    `stop` is read only between starts. A start is never interrupted, so no process goes unrecorded.

    Args:
        rooms: of a Flow. Keep them until their processes have ended: the semaphores of a new process, which it opens a
            moment after its start, go with its room.
        stop: becomes readable when the Flow must end.
        report: called with a line for each room that has ended.
    """
    while True:
        running = {room.sentinel: room for room in rooms if room.restart_at is None}
        restarts = [room.restart_at for room in rooms if room.restart_at is not None]
        timeout = max(min(restarts) - time.monotonic(), 0) if restarts else None
        ready = wait([stop, *running], timeout)
        if stop in ready:
            return
        for sentinel in ready:
            assert isinstance(sentinel, int)
            report(running[sentinel].schedule_restart())
        for room in rooms:
            if room.restart_at is not None and room.restart_at <= time.monotonic():
                room.start()


def _reason(code: int | None) -> str:
    if code is not None and code < 0:
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"
    return f"exit code {code}"
