"""Our Flows as plain Jina starts them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import httpx
import psutil
import pytest
import yaml

from finetuner.flow.settings import configured_flow, flow_addresses, flow_file
from finetuner.transport.connection import NO_TELEMETRY
from finetuner.transport.probes import Addresses


class PlainFlow:
    """`jina flow --uses` on a YAML of ours with other ports.

    Args:
        folder: for its workspace, its YAML and its log.
    """

    def __init__(self, folder: Path) -> None:
        self._held = ExitStack()
        content = self._held.enter_context(
            configured_flow(flow_file(), workspace=folder / "workspace", grpc_port=0, http_port=0)
        )
        self.where: Addresses = flow_addresses(content)
        path = folder / "finetuner.yml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        self._log = folder / "flow.log"
        with open(self._log, "wb") as log:
            self.process = subprocess.Popen(
                [str(Path(sys.executable).with_name("jina")), "flow", "--uses", str(path)],
                cwd=flow_file().parents[1],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **NO_TELEMETRY},
            )

    def wait(self, seconds: float = 300) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if httpx.get(f"{self.where.http}/healthz", timeout=15).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        pytest.fail(f"the Flow did not start:\n{self._log.read_text()[-5000:]}")

    def interrupt(self) -> int:
        """Send SIGINT as Ctrl-C does, and return the exit code.

        Rooms answer before Jina has shown its table, for which it asks the network; until then it dies of the signal.
        """
        deadline = time.monotonic() + 250
        while "ready to serve" not in self._log.read_text():
            assert time.monotonic() < deadline, self._log.read_text()[-5000:]
            time.sleep(0.2)
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(200)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.session():
            process.kill()
        self.process.wait()
        self._held.close()

    def session(self) -> list[psutil.Process]:
        """Every process of the Flow, also one whose parent has gone."""
        found = []
        for process in psutil.process_iter():
            try:
                if os.getsid(process.pid) == self.process.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except (ProcessLookupError, psutil.NoSuchProcess):
                continue
        return found
