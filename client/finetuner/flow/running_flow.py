"""A Flow in a child process, for the demo, the tests and scripts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ..contract.environment import FLOW_ID, FLOWS, PARENT, TOKEN
from ..exceptions import FinetunerServerError, InvalidInput
from ..transport.probes import Addresses
from ..workspace.folder import Workspace
from .processes import KILL_SECONDS, end

if TYPE_CHECKING:
    import psutil


START_SECONDS = 180.0
STOP_SECONDS = 90.0  # longer than `launch` waits for its rooms


class RunningFlow:
    """A Flow in a child process, up from `__enter__` to `__exit__`. No process is left, however the block ends.

        with RunningFlow("workspace") as flow:
            finetuner.login(host=flow.host)

    Args:
        workspace: folder of the Flow; its output goes to `flow.log` in it.
        token: what callers must send; None lets everybody in, also where $FINETUNER_TOKEN is set.
        flow: the YAML; by default `flows/finetuner.yml` of the checkout.
        timeout: seconds until the Flow must be healthy.
    """

    def __init__(
        self,
        workspace: str | os.PathLike[str],
        *,
        token: str | None = None,
        flow: Path | None = None,
        timeout: float = START_SECONDS,
    ) -> None:
        self.workspace = Workspace(workspace).root
        self.log = self.workspace / "flow.log"
        self._token = token
        self._flow = flow
        self._timeout = timeout
        self._mark = uuid.uuid4().hex
        self._process: subprocess.Popen[bytes] | None = None
        self._where: Addresses | None = None

    @property
    def addresses(self) -> Addresses:
        """Where the Flow can be reached."""
        if self._where is None:
            raise InvalidInput("A RunningFlow has addresses inside its `with` block only. Enter it first.")
        return self._where

    @property
    def host(self) -> str:
        """The gRPC address, for `login(host=...)` and `jina.Client(host=...)`."""
        return self.addresses.grpc

    @property
    def http(self) -> str:
        """The URL of the HTTP side."""
        return self.addresses.http

    @property
    def metrics(self) -> dict[str, str]:
        """Prometheus URL by room."""
        return self.addresses.metrics

    @property
    def pid(self) -> int:
        """The child process, parent of the rooms."""
        return self.addresses.pid

    def __enter__(self) -> Self:
        """Start the child and wait until both encoders answer.

        Raises:
            FinetunerServerError: it ended, or was not healthy in time; with the last lines of its log.
        """
        try:
            self._start()
            self._wait()
        except BaseException:  # Ctrl-C too
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _start(self) -> None:
        environment = {**os.environ, PARENT: str(os.getpid()), FLOW_ID: self._mark}
        environment.pop(TOKEN, None)
        if self._token is not None:
            environment[TOKEN] = self._token  # not an option, which every user of the machine could read
        command = [sys.executable, "-m", "finetuner.cli", "up", "--grpc-port", "0", "--http-port", "0"]
        if self._flow is not None:
            environment[FLOWS] = str(self._flow.parent)
            command += ["--flow", self._flow.stem]
        with open(self.log, "wb") as log:
            self._process = subprocess.Popen(
                [*command, "--workspace", str(self.workspace)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # Ctrl-C in the terminal is for us; we stop the child in order
            )

    def _wait(self) -> None:
        assert self._process is not None
        deadline, reason = time.monotonic() + self._timeout, "it has not written its addresses"
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise FinetunerServerError("The Flow ended while it started", self._last_lines())
            self._where = self._read_addresses()
            if self._where is not None:
                reason = _unhealthy(self._where.http)
                if not reason:
                    return
            time.sleep(0.1)
        raise FinetunerServerError(
            f"The Flow was not healthy within {self._timeout:g} s", f"{reason}\n{self._last_lines()}"
        )

    def _read_addresses(self) -> Addresses | None:
        assert self._process is not None
        try:
            where = Addresses(**json.loads((self.workspace / "flow.json").read_bytes()))
        except FileNotFoundError:
            return None
        return where if where.pid == self._process.pid else None  # an older Flow may have left its file

    def _last_lines(self, count: int = 30) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:]) + f"\n(from {self.log})"

    def stop(self) -> None:
        """Ask the Flow to stop, wait, and kill what is left of it. Does nothing where it is not up."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
        finally:  # also where Ctrl-C comes while we wait
            end(self._left(), KILL_SECONDS)
            process.wait()
            self._where = None

    def _left(self) -> list[psutil.Process]:
        """Return the Flow's processes, by the mark that each inherits: also those whose own parent is gone."""
        import psutil

        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(FLOW_ID) == self._mark:
                    found.append(process)
        return found


def _unhealthy(http: str) -> str:
    """Return why `/healthz` is not 200, '' where it is."""
    try:
        with urllib.request.urlopen(f"{http}/healthz", timeout=15):
            return ""
    except urllib.error.HTTPError as error:
        return error.read().decode(errors="replace")
    except OSError as error:
        return str(error)
