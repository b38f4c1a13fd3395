"""A Flow under attack, an honest caller, and what is seen meanwhile."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from finetuner.flow.running_flow import RunningFlow

SETTLE_SECONDS, STILL_SECONDS, STILL_MB = 120.0, 30.0, 2.0
HONEST = Path(__file__).with_name("honest.py")


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
    rest: dict[int, float] = field(default_factory=dict)
    """MB of each process before the first attack."""

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

    def settle(self) -> None:
        """Wait until no process has grown for a while: the one that runs fork from imports torch's compiler late."""
        deadline, since = time.monotonic() + SETTLE_SECONDS, time.monotonic()
        while time.monotonic() < min(since + STILL_SECONDS, deadline):
            time.sleep(1)
            now = self.memory()
            if any(megabytes > self.rest.get(pid, 0.0) + STILL_MB for pid, megabytes in now.items()):
                self.rest, since = now, time.monotonic()

    def growth(self, memory: dict[int, float]) -> tuple[float, str]:
        """Return the MB that the process has grown by that has grown most, and its room."""
        grown = {pid: megabytes - self.rest.get(pid, megabytes) for pid, megabytes in memory.items()}
        pid = max(grown, key=grown.__getitem__)
        return grown[pid], self._rooms().get(pid, "no room")

    def _rooms(self) -> dict[int, str]:
        """Return the room of each process that listens where a room has its metrics."""
        ports, found = {urlsplit(url).port: room for room, url in self.flow.metrics.items()}, {}
        for process in self.flow._remaining():
            with suppress(psutil.Error):
                for each in process.net_connections("tcp"):
                    if each.status == psutil.CONN_LISTEN and each.laddr.port in ports:
                        found[process.pid] = ports[each.laddr.port]
        return found

    def listen(self, honest: subprocess.Popen[str]) -> None:
        """Read the seconds of the honest caller's answers."""
        assert honest.stdout is not None
        for line in honest.stdout:
            self.seconds = max(self.seconds, float(line))

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
def siege_of(flow: RunningFlow, token: str, writer: str) -> Iterator[Siege]:
    """Yield the siege of a Flow at rest, while the honest caller asks."""
    siege, over = Siege(flow, token, writer), threading.Event()
    honest = subprocess.Popen([sys.executable, HONEST, flow.http, token], stdout=subprocess.PIPE, text=True)
    listening = threading.Thread(target=siege.listen, args=(honest,))
    listening.start()
    siege.settle()
    siege.seconds = 0.0
    watching = threading.Thread(target=siege.watch, args=(over,))
    watching.start()
    try:
        yield siege
    finally:
        over.set()
        watching.join()
        failed = honest.poll() is not None
        honest.kill()
        listening.join()
        assert not failed, "an answer to the honest caller failed"
