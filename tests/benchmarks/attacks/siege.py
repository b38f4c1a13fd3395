"""A Flow under attack, an honest caller, and what is seen meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx
import psutil

from finetuner.flow.running_flow import RunningFlow

TEXT = {"data": [{"text": "a red dress"}]}


@dataclass
class Siege:
    """A Flow under attack, and what was seen."""

    flow: RunningFlow
    token: str
    """A reader's."""
    writer: str
    """A writer's, for uploads alone."""
    seconds: float = 0.0
    peaks: dict[int, float] = field(default_factory=dict)
    entered: list[str] = field(default_factory=list)

    @property
    def grpc_address(self) -> tuple[str, int]:
        """Host and port of the gRPC side."""
        return _address(self.flow.host)

    @property
    def http_address(self) -> tuple[str, int]:
        """Host and port of the HTTP side."""
        return _address(self.flow.http)

    @property
    def headers(self) -> dict[str, str]:
        """Of a request with the reader's token."""
        return {"authorization": f"token {self.token}", "content-type": "application/json"}

    def memory(self) -> dict[int, float]:
        """Return the MB of each process of the Flow."""
        found = {}
        for process in self.flow._remaining():
            with suppress(psutil.Error):
                found[process.pid] = process.memory_info().rss / 2**20
        return found

    def honest(self, over: threading.Event) -> None:
        """Ask for one text every 100 ms."""
        with httpx.Client(base_url=self.flow.http, headers=self.headers, timeout=120) as client:
            while not over.is_set():
                started = time.perf_counter()
                try:
                    answer = client.post("/encode", json=TEXT)
                    assert "embedding" in answer.json()["data"][0], answer.text[:500]
                finally:
                    self.seconds = max(self.seconds, time.perf_counter() - started)
                time.sleep(0.1)

    def watch(self, over: threading.Event) -> None:
        """Take the peak of each process."""
        while not over.is_set():
            for pid, megabytes in self.memory().items():
                self.peaks[pid] = max(self.peaks.get(pid, 0.0), megabytes)
            time.sleep(0.2)


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or 0


@contextmanager
def siege_of(flow: RunningFlow, token: str, writer: str) -> Iterator[tuple[Siege, dict[int, float]]]:
    """Yield the siege and the memory at rest, while the honest caller asks."""
    siege, over = Siege(flow, token, writer), threading.Event()
    asking = threading.Thread(target=siege.honest, args=(over,))
    asking.start()
    time.sleep(10)
    rest, siege.seconds = siege.memory(), 0.0
    watching = threading.Thread(target=siege.watch, args=(over,))
    watching.start()
    try:
        yield siege, rest
    finally:
        over.set()
        asking.join()
        watching.join()
