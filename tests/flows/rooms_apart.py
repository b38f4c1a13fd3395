"""Rooms of a Flow in processes of their own, as containers run them."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import psutil
from PIL import Image

from finetuner.flow.processes import end_processes
from finetuner.health import problem
from tests.ports import held_ports

START_SECONDS = 250.0
TOKEN = "a-token-of-the-test"


def documents_in(metrics: str) -> float:
    """Return how many documents an encoder, by the address of its metrics, has admitted and not answered."""
    lines = httpx.get(metrics).text.splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("finetuner_queue_documents")))


def slow_image() -> bytes:
    """Return a JPEG that takes time to decode, and little on the way."""
    file = io.BytesIO()
    Image.linear_gradient("L").resize((3000, 2000)).convert("RGB").save(file, "JPEG")
    return file.getvalue()


class RoomsApart:
    """Rooms on loopback, one process each, up from `__enter__` to `__exit__`.

    Args:
        workspace: that they share.
        names: of the rooms of flows/finetuner.yml; the gateway starts like the others.
        settings: `--set` of each by name.
    """

    def __init__(self, workspace: Path, *names: str, settings: dict[str, list[str]] | None = None) -> None:
        self.workspace = workspace
        self._names = names
        self._settings = settings or {}
        self._held = ExitStack()
        chosen = iter(self._held.enter_context(held_ports(2 * len(names) + 2)))
        self.grpc, self.http = next(chosen), next(chosen)
        self.ports = {name: next(chosen) for name in names}
        self._metrics = {name: next(chosen) for name in names}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> RoomsApart:
        try:
            for name in self._names:
                self.start(name)
            for name in self._names:
                self.wait(name)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        left = [psutil.Process(process.pid) for process in self.processes.values() if process.poll() is None]
        end_processes(left, 15)
        for process in self.processes.values():
            process.wait()
        self._held.close()

    def address(self, name: str) -> str:
        """Return HOST:PORT of a room."""
        return f"127.0.0.1:{self.grpc if name == 'gateway' else self.ports[name]}"

    def metrics(self, name: str) -> str:
        return f"http://127.0.0.1:{self._metrics[name]}/metrics"

    def start(self, name: str) -> None:
        command: list[Any] = [sys.executable, "-m", "finetuner.cli", "room", name, "--bind", "127.0.0.1"]
        command += ["--workspace", self.workspace, "--metrics-port", self._metrics[name]]
        command += ["--grpc-port", self.grpc, "--http-port", self.http, "--port", self.ports[name]]
        for other in self._names:
            command += ["--address", f"{other}={self.address(other)}"]
        for setting in self._settings.get(name, []):
            command += ["--set", setting]
        with open(self.log(name), "ab") as log:
            environment = os.environ | {"FINETUNER_TOKEN": TOKEN}
            self.processes[name] = subprocess.Popen(list(map(str, command)), stdout=log, stderr=log, env=environment)

    def wait(self, name: str) -> None:
        """Wait until a room is well."""
        url = f"http://127.0.0.1:{self.http}" if name == "gateway" else f"grpc://{self.address(name)}"
        deadline = time.monotonic() + START_SECONDS
        while found := problem(url):
            assert self.processes[name].poll() is None, self.log(name).read_text()
            assert time.monotonic() < deadline, f"{found}\n{self.log(name).read_text()}"
            time.sleep(0.2)

    def restart(self, name: str) -> None:
        """Start a room that has ended, and wait until the gateway has found it again."""
        self.start(name)
        self.wait(name)
        deadline = time.monotonic() + START_SECONDS
        while (state := httpx.get(f"http://127.0.0.1:{self.http}/healthz").json())["status"] != "ok":
            assert time.monotonic() < deadline, state
            time.sleep(0.2)

    def stop(self, name: str) -> int:
        """Send SIGTERM, and return the exit code."""
        self.processes[name].send_signal(signal.SIGTERM)
        return self.processes[name].wait(200)

    def log(self, name: str) -> Path:
        return self.workspace / f"{name}.log"
