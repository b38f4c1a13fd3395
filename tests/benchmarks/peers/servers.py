"""Our Flow and other servers of the same model for serve_speed.py: how each is started, in processes of its own.

The others have virtual environments of their own: PEERS/<name>/bin/python must be a Python that has the package, and
one that is not there is left out. For example

    uv venv PEERS/litserve && uv pip install --python PEERS/litserve litserve open_clip_torch
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from docarray import Document, DocumentArray
from jina import Client

from finetuner.contract.wire import ENCODE, error_of

SCRIPTS = Path(__file__).parent
START_SECONDS = 180
OURS = "open-finetuner"

Ask = Callable[[Sequence[Any]], Awaitable[np.ndarray]]
"""One request: texts, or images as JPEG files -> (documents, dim) float32."""


@dataclass(frozen=True)
class Peer:
    """A server and its protocol."""

    name: str
    """Of the package, and of the environment's folder."""
    script: str
    """Starts it: FOLDER PORT BATCH KIND and `arguments`."""
    ask: Callable[[int, str], Ask]
    """Port, 'image' or 'text' -> what asks it."""
    takes_many: bool = True
    """Whether a request may hold several documents."""
    arguments: tuple[str, ...] = ()
    """Of the script, after the four."""

    def version(self, environments: Path | None) -> str | None:
        """Return the installed version, None where it is not installed."""
        python = self.python(environments)
        if python is None:
            return None
        code = f"import importlib.metadata as m; print(m.version({self.name!r}))"
        found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
        return found.stdout.strip() or None

    def python(self, environments: Path | None) -> Path | None:
        """Return its environment's Python; ours is this one."""
        if self.name == OURS:
            return Path(sys.executable)
        python = environments and environments / self.name / "bin" / "python"
        return python if python and python.exists() else None

    @asynccontextmanager
    async def running(
        self, environments: Path | None, folder: Path, batch: int, kind: str, first: Sequence[Any]
    ) -> AsyncIterator[tuple[Ask, psutil.Process]]:
        """Start it, wait until it answers `first`, and stop it."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [self.python(environments), SCRIPTS / self.script, folder, port, batch, kind, *self.arguments]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        environment.pop("PYTHONPATH", None)
        with open(folder / f"{self.name}.log", "a") as log:
            started = subprocess.Popen(
                [str(part) for part in command], stdout=log, stderr=log, env=environment, start_new_session=True
            )
        try:
            ask = self.ask(port, kind)
            async with asyncio.timeout(START_SECONDS):
                while True:
                    try:
                        await ask(first)
                        break
                    except (httpx.HTTPError, ConnectionError, KeyError):
                        if started.poll() is not None:
                            raise RuntimeError((folder / f"{self.name}.log").read_text()[-2000:]) from None
                        await asyncio.sleep(1)
            yield ask, psutil.Process(started.pid)
        finally:
            with suppress(ProcessLookupError):  # it ended by itself
                os.killpg(started.pid, signal.SIGKILL)
            started.wait()


def by_grpc(endpoint: str) -> Callable[[int, str], Ask]:
    """Return what asks a Flow."""

    def connect(port: int, kind: str) -> Ask:
        client = Client(host=f"grpc://127.0.0.1:{port}", asyncio=True)

        async def ask(items: Sequence[Any]) -> np.ndarray:
            field = "text" if kind == "text" else "blob"
            documents = DocumentArray([Document(**{field: item}) for item in items])
            async for answer in client.post(endpoint, documents, request_size=len(documents)):
                if len(answer) < len(documents):  # the gateway is up, the room not yet
                    raise ConnectionError("the Flow must answer every document. It does not yet.")
                assert not any(error_of(document) for document in answer)
                return np.asarray(answer.embeddings, dtype=np.float32)
            raise AssertionError("a request without an answer")

        return ask

    return connect


def _infinity(port: int, kind: str) -> Ask:
    client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=300)

    async def ask(items: Sequence[Any]) -> np.ndarray:
        if kind == "image":
            items = [f"data:image/jpeg;base64,{base64.b64encode(item).decode()}" for item in items]
        answer = await client.post("/embeddings", json={"model": "clip", "input": [*items], "modality": kind})
        answer.raise_for_status()
        return np.array([entry["embedding"] for entry in answer.json()["data"]], dtype=np.float32)

    return ask


def _litserve(port: int, kind: str) -> Ask:
    client = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=300)

    async def ask(items: Sequence[Any]) -> np.ndarray:
        (item,) = items
        value = item if kind == "text" else base64.b64encode(item).decode()
        answer = await client.post("/predict", json={kind: value})
        answer.raise_for_status()
        return np.array([answer.json()["embedding"]], dtype=np.float32)

    return ask


PEERS = (
    Peer("clip-server", "clip_server_flow.py", by_grpc("/")),
    Peer("infinity-emb", "infinity_server.py", _infinity),
    Peer("litserve", "litserve_server.py", _litserve, takes_many=False),
)


def ours(settings: Mapping[str, Any]) -> Peer:
    """Return our encoder room with these `uses_with`."""
    return Peer(OURS, "finetuner_flow.py", by_grpc(ENCODE), arguments=(json.dumps(settings),))
