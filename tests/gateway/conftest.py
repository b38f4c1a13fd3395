"""Two toy Flows behind the real gateway: one without a token, one with a token and a broken encoder."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from finetuner.flow.settings import Certificate
from finetuner.health import problem
from finetuner.transport.connection import NO_TELEMETRY
from tests.ports import held_ports

ROOT = Path(__file__).parents[2]
TOKEN = "s3cret-t0ken"
WRONG_TOKENS = 300  # a minute of each address, in the locked Flow


@dataclass(frozen=True)
class ToyFlow:
    """The ports of a toy Flow."""

    grpc_port: int
    http: str
    metrics: str
    rooms_port: int = 0
    log: Path = Path()
    first_answers: tuple[int, ...] = ()
    """Statuses of the first requests after the first SERVING of gRPC's health service."""

    @property
    def grpc(self) -> str:
        return f"grpc://127.0.0.1:{self.grpc_port}"


@contextmanager
def run_toy_flow(
    folder: Path,
    vision: str,
    token: str | None,
    certificate: Certificate | None = None,
    settings: dict[str, Any] | None = None,
) -> Iterator[ToyFlow]:
    """Run toy rooms behind the real gateway.

    Args:
        folder: for the YAML and the log.
        vision: class of the vision encoder.
        token: of the Flow, None for none.
        certificate: turns on TLS.
        settings: `uses_with` of the gateway.
    """
    with held_ports(4) as (grpc_port, http_port, metrics_port, rooms_port), open(folder / "flow.log", "wb") as log:
        rooms = {"trainer": "ToyTrainer", "text_encoder": "ToyText", "vision_encoder": vision, "indexer": "ToyIndexer"}
        content = {
            "jtype": "Flow",
            "version": "1",
            "with": {"prefetch": 4},
            "gateway": {
                "uses": str(ROOT / "executors" / "gateway" / "config.yml"),
                "uses_with": settings or {},
                "protocol": ["grpc", "http"],
                "port": [grpc_port, http_port],
                "host": "127.0.0.1",
                "monitoring": True,
                "port_monitoring": metrics_port,
            },
            "executors": [
                {
                    "name": name,
                    "uses": uses,
                    "py_modules": str(Path(__file__).with_name("toy_rooms.py")),
                    "host": "127.0.0.1",
                }
                for name, uses in rooms.items()
            ],
        }
        if certificate is not None:
            content["gateway"]["protocol"].append("grpc")
            content["gateway"]["port"].append(rooms_port)
            content["gateway"] |= {"ssl_certfile": str(certificate.file), "ssl_keyfile": str(certificate.key)}
        path = folder / "flow.yml"
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        environment = {**os.environ, **NO_TELEMETRY, "JINA_LOG_LEVEL": "WARNING"}
        environment["PYTHONPATH"] = os.pathsep.join([str(ROOT / "client"), str(ROOT)])
        environment.pop("FINETUNER_TOKEN", None)
        if token is not None:
            environment["FINETUNER_TOKEN"] = token
        scheme = "http" if certificate is None else "https"
        metrics = f"http://127.0.0.1:{metrics_port}"
        flow = ToyFlow(grpc_port, f"{scheme}://127.0.0.1:{http_port}", metrics, rooms_port, folder / "flow.log")
        process = subprocess.Popen(
            [str(Path(sys.executable).with_name("jina")), "flow", "--uses", str(path)],
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + 200
            first: tuple[int, ...] = ()
            # Before Jina has printed this, it would lose the SIGINT below.
            while not (
                _answers(flow.http)
                and "ready to serve" in (folder / "flow.log").read_text()
                and (first or certificate is not None)
            ):
                if not first and certificate is None and problem(flow.grpc, 5) == "":
                    headers = {"authorization": f"token {token}"}
                    first = tuple(
                        httpx.post(f"{flow.http}/encode", json={"data": [{"text": "a"}]}, headers=headers).status_code
                        for _ in range(3)
                    )
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"the toy Flow did not start:\n{(folder / 'flow.log').read_text()[-3000:]}")
                time.sleep(0.1)
            yield replace(flow, first_answers=first)
        finally:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(60)
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _answers(http: str) -> bool:
    try:
        urllib.request.urlopen(http, timeout=1, context=ssl._create_unverified_context()).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="session")
def open_flow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ToyFlow]:
    """A Flow without a token, whose encoders work."""
    with run_toy_flow(tmp_path_factory.mktemp("open"), "ToyVision", None) as running:
        yield running


@pytest.fixture(scope="session")
def locked_flow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ToyFlow]:
    """A Flow with a token, whose vision encoder answers with an error."""
    settings = {"wrong_tokens": WRONG_TOKENS}
    with run_toy_flow(tmp_path_factory.mktemp("locked"), "BrokenVision", TOKEN, settings=settings) as running:
        yield running
