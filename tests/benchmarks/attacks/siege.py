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
def siege_of(flow: RunningFlow, token: str, writer: str) -> Iterator[tuple[Siege, dict[int, float]]]:
    """Yield the siege and the memory at rest, while the honest caller asks."""
    siege, over = Siege(flow, token, writer), threading.Event()
    honest = subprocess.Popen([sys.executable, HONEST, flow.http, token], stdout=subprocess.PIPE, text=True)
    listening = threading.Thread(target=siege.listen, args=(honest,))
    listening.start()
    time.sleep(10)
    rest, siege.seconds = siege.memory(), 0.0
    watching = threading.Thread(target=siege.watch, args=(over,))
    watching.start()
    try:
        yield siege, rest
    finally:
        over.set()
        watching.join()
        failed = honest.poll() is not None
        honest.kill()
        listening.join()
        assert not failed, "an answer to the honest caller failed"
