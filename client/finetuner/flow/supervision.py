"""Rooms that end come back: Jina's local Flow starts a room once and never looks at it again."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Any

PAUSES = (0, 1, 2, 4, 8, 16, 30)  # seconds before a start, by how often the room has ended at once; then the last
STEADY_SECONDS = 60.0  # a room that has lived so long is not one that cannot start


class RoomProcess:
    """One process of a Flow: a replica of an executor, or the gateway.

    Args:
        pod: Jina's, started.
    """

    def __init__(self, pod: Any) -> None:
        self._pod = pod
        self._began = time.monotonic()
        self._short_lives = 0
        self.due: float | None = None
        """When it is to be started again, by the monotonic clock; None while it runs."""

    @property
    def sentinel(self) -> int:
        """What `wait` takes for its end."""
        return int(self._pod.worker.sentinel)

    def ended(self) -> str:
        """Choose when it starts again; return a line that says so."""
        now = time.monotonic()
        if now - self._began >= STEADY_SECONDS:
            self._short_lives = 0
        pause = PAUSES[min(self._short_lives, len(PAUSES) - 1)]
        self._short_lives += 1
        self.due = now + pause
        self._pod.worker.join()
        when = f"in {pause} s" if pause else "now"
        return f"{self._pod.name} has ended ({_reason(self._pod.worker.exitcode)}). It is started again {when}."

    def start(self) -> None:
        """Start it on the same ports with the same settings, without waiting until it is ready."""
        self._pod = type(self._pod)(self._pod.args)  # a process of Python starts once
        self._pod.start()
        self._began, self.due = time.monotonic(), None


def pods_of(flow: Any) -> Iterator[Any]:
    """Yield the pods of a started Flow."""
    for _, deployment in flow:
        named = (deployment.uses_before_pod, deployment.uses_after_pod, deployment.head_pod, deployment.gateway_pod)
        yield from (pod for pod in named if pod is not None)
        for replicas in deployment.shards.values():
            yield from replicas._pods


def keep_up(flow: Any, stop: Connection, tell: Callable[[str], Any]) -> None:
    """Start every room of a Flow again that ends, until `stop` can be read.

    Nothing interrupts a start, so that no process is started that nobody knows of.

    Args:
        flow: started with pods that do not block at their start.
        stop: becomes readable when the Flow is to end.
        tell: gets a line for each room that has ended.
    """
    rooms = [RoomProcess(pod) for pod in pods_of(flow)]
    while True:
        running = {room.sentinel: room for room in rooms if room.due is None}
        due = [room.due for room in rooms if room.due is not None]
        found = wait([stop, *running], max(min(due) - time.monotonic(), 0) if due else None)
        if stop in found:
            return
        for sentinel in found:
            assert isinstance(sentinel, int)
            tell(running[sentinel].ended())
        for room in rooms:
            if room.due is not None and room.due <= time.monotonic():
                room.start()


def _reason(code: int | None) -> str:
    if code is not None and code < 0:
        try:
            return f"killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"killed by signal {-code}"
    return f"exit code {code}"
