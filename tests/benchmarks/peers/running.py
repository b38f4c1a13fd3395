"""Servers that a benchmark starts and asks."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path

import grpc
import psutil

from .lean_clients import Send

ROOT = Path(__file__).parents[3]
START_SECONDS = 180

Connect = Callable[[], AbstractAsyncContextManager[Send]]


class Server:
    """A server, its processes and its ways to be asked.

    Args:
        name: of the rows.
        processes: the server processes, by name.
        ways: 'rest embeddings' and so on -> a new connection.
        of_token: token -> a new connection for embeddings.
        ports: of gRPC and HTTP, of a Flow.
    """

    def __init__(
        self,
        name: str,
        processes: dict[str, psutil.Process],
        ways: dict[str, Connect],
        of_token: Callable[[str], Connect] | None = None,
        ports: tuple[int, int] = (0, 0),
    ) -> None:
        self.name, self.processes, self.ways, self.of_token, self.ports = name, processes, ways, of_token, ports

    def cpu(self) -> dict[str, float]:
        """Return the CPU seconds that each process has used."""
        return {name: sum(process.cpu_times()[:2]) for name, process in self.processes.items()}


def free_port() -> int:
    """Return a port of loopback on which nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@asynccontextmanager
async def started(
    command: Sequence[object], log: Path, root: Path = ROOT, **variables: object
) -> AsyncIterator[subprocess.Popen[bytes]]:
    """Run a command in the background, in its own process group."""
    environment = {**os.environ, **{name: str(value) for name, value in variables.items()}}
    environment["PYTHONPATH"] = os.pathsep.join([str(root / "client"), str(root)])
    with open(log, "ab") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            env=environment,
            cwd=root,  # `python -m` looks there first
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


async def answers(connect: Connect, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server answers."""
    async with asyncio.timeout(START_SECONDS):
        while True:
            try:
                async with connect() as send:
                    await send(0)
                    return
            except (OSError, asyncio.IncompleteReadError, grpc.aio.AioRpcError):
                pass
            if process.poll() is not None:
                raise RuntimeError(log.read_text()[-3000:])
            await asyncio.sleep(0.5)
