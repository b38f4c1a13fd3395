"""Runs a Flow in a child process, for the demo, the tests and scripts."""

from __future__ import annotations

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

from ..contract.environment import FLOW_ID, PARENT, TOKEN
from ..exceptions import FinetunerServerError, InvalidInput
from ..transport.probes import Addresses, running
from ..workspace.folder import Workspace
from .processes import KILL_SECONDS, end_processes
from .server_packages import require_server

if TYPE_CHECKING:
    import psutil


START_SECONDS = 180.0
STOP_SECONDS = 90.0  # more than `launch` gives its rooms to end


class RunningFlow:
    """A Flow in a child process, up inside a `with` block. However the block ends, it leaves no process behind.

        with RunningFlow("workspace") as flow:
            finetuner.login(host=flow.host)

    Args:
        workspace: folder of the Flow; the Flow's output goes to its file `flow.log`.
        token: token that clients must send; None requires no token, even if $FINETUNER_TOKEN is set.
        flow: the Flow's YAML file; None takes the package's `flows/finetuner.yml`.
        timeout: seconds to wait until the Flow is healthy.
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
        self._flow_id = uuid.uuid4().hex
        self._process: subprocess.Popen[bytes] | None = None
        self._addresses: Addresses | None = None

    @property
    def addresses(self) -> Addresses:
        """Addresses of the Flow's gRPC, HTTP and metrics sides."""
        if self._addresses is None:
            raise InvalidInput(
                "a RunningFlow must be inside its `with` block to have addresses. It is outside. Enter the block first."
            )
        return self._addresses

    @property
    def host(self) -> str:
        """Address of the gRPC side, for `login(host=...)` and `jina.Client(host=...)`."""
        return self.addresses.grpc

    @property
    def http(self) -> str:
        """URL of the HTTP side."""
        return self.addresses.http

    @property
    def metrics(self) -> dict[str, str]:
        """URL of the Prometheus metrics by room."""
        return self.addresses.metrics

    @property
    def pid(self) -> int:
        """Id of the child process, which is the parent of the rooms."""
        return self.addresses.pid

    def __enter__(self) -> Self:
        """Start the child process and wait until the Flow is healthy.

        Raises:
            FinetunerServerError: the Flow ended, or was not healthy in time. The error has the last lines of its log.
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
        require_server()
        environment = {**os.environ, PARENT: str(os.getpid()), FLOW_ID: self._flow_id}
        environment.pop(TOKEN, None)
        if self._token is not None:
            environment[TOKEN] = self._token  # not as an option, which every user of the machine could read
        command = [sys.executable, "-m", "finetuner.cli", "up", "--grpc-port", "0", "--http-port", "0"]
        if self._flow is not None:
            command += ["--flow", str(self._flow)]
        with open(self.log, "wb") as log:
            self._process = subprocess.Popen(
                [*command, "--workspace", str(self.workspace)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches only this process, which then stops the child in order
            )

    def _wait(self) -> None:
        assert self._process is not None
        deadline, reason = time.monotonic() + self._timeout, "it has not written its addresses"
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise FinetunerServerError("The Flow ended while it started", self._last_lines())
            self._addresses = self._read_addresses()
            if self._addresses is not None:
                reason = _health_problem(self._addresses.http)
                if not reason:
                    return
            time.sleep(0.1)
        raise FinetunerServerError(
            f"The Flow was not healthy within {self._timeout:g} s", f"{reason}\n{self._last_lines()}"
        )

    def _read_addresses(self) -> Addresses | None:
        assert self._process is not None
        addresses = running(self.workspace)  # an older Flow may have left its file
        return addresses if addresses is not None and addresses.pid == self._process.pid else None

    def _last_lines(self, count: int = 30) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:]) + f"\n(from {self.log})"

    def stop(self) -> None:
        """Terminate the Flow, wait, and kill its remaining processes. Without a running Flow, do nothing."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
        finally:  # even if Ctrl-C interrupts the wait
            end_processes(self._remaining(), KILL_SECONDS)
            process.wait()
            self._addresses = None

    def _remaining(self) -> list[psutil.Process]:
        """Return the Flow's running processes, found by the id that each inherits, even if its parent has ended."""
        import psutil

        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(FLOW_ID) == self._flow_id:
                    found.append(process)
        return found


def _health_problem(http: str) -> str:
    """Return the problem that `/healthz` reports, '' if the Flow is healthy."""
    try:
        with urllib.request.urlopen(f"{http}/healthz", timeout=15):
            return ""
    except urllib.error.HTTPError as error:
        return error.read().decode(errors="replace")
    except OSError as error:
        return str(error)
