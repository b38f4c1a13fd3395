"""The hub's routes in front of the datasets of a workspace, and the forms that clients send to them."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docarray.array.mixins.io.pushpull as docarray_hub
import httpx
import pytest
import requests
import uvicorn
from docarray import Document, DocumentArray
from jina.types.request.data import DataRequest

from finetuner.api import hub
from finetuner.contract import wire
from finetuner.contract.environment import HTTP
from finetuner.contract.wire import mark_error, reply
from finetuner.exceptions import FinetunerError, InvalidInput
from finetuner.executors.gateway.access.access import Access
from finetuner.executors.gateway.access.metrics import GatewayMetrics
from finetuner.executors.gateway.http_app import build_app
from finetuner.transport.connection import Connection
from finetuner.workspace.datasets import Datasets
from finetuner.workspace.folder import Workspace
from tests import plain_http
from tests.gateway.conftest import TOKEN

RPC = "/v2/rpc/"
HEADERS = {"authorization": f"token {TOKEN}"}


def form(content: bytes, **fields: str) -> tuple[bytes, str]:
    """Return a multipart body with the part `file` first, as DocArray sends it."""
    parts = {"file": ("DocumentArray", content), **fields}
    return requests.packages.urllib3.filepost.encode_multipart_formdata(parts)  # type: ignore[attr-defined,no-any-return]


def streamed(documents: DocumentArray) -> bytes:
    return bytes(documents.to_bytes(protocol="protobuf", compress="gzip"))


def texts(count: int = 3) -> DocumentArray:
    return DocumentArray(Document(text=f"text {number}") for number in range(count))


@dataclass
class Rooms:
    """A gateway's handler whose only room is the datasets of a workspace, without a Flow, and its hub client."""

    datasets: Datasets = field(init=False)
    metrics: GatewayMetrics = field(default_factory=lambda: GatewayMetrics(None))
    logger: logging.Logger = field(default_factory=lambda: logging.getLogger("test"))
    parts: list[int] = field(default_factory=list)
    http: str = ""

    async def process_single_data(self, request: DataRequest, context: Any = None) -> DataRequest:
        answer = DataRequest()
        answer.header.exec_endpoint = request.header.exec_endpoint
        try:
            answer.data.docs = self.answer(request.header.exec_endpoint, request.docs, dict(request.parameters))
        except FinetunerError as error:
            answer.data.docs = DocumentArray([mark_error(Document(), error)])
        return answer

    def answer(self, endpoint: str, docs: DocumentArray, given: dict[str, Any]) -> DocumentArray:
        match endpoint:
            case wire.DATASETS_PUSH if given.get("abort"):
                value: Any = self.datasets.forget(given["upload"])
            case wire.DATASETS_PUSH if "commit" in given:
                version = given.get("version", "")
                value = vars(self.datasets.commit(given["name"], given["upload"], int(given["commit"]), version))
            case wire.DATASETS_PUSH:
                self.parts.append(len(docs))
                value = self.datasets.add_part(given["upload"], int(given["part"]), docs, int(given["first"]))
            case wire.DATASETS_PULL:
                return self.datasets.part(given["version"], int(given["part"]))
            case wire.DATASETS_LIST:
                value = [vars(self.datasets.find(given["name"]))] if "name" in given else None
                value = value or [vars(dataset) for dataset in self.datasets.all()]
            case wire.DATASETS_DELETE:
                value = vars(self.datasets.delete(given["name"]))
            case wire.ARTIFACTS_LIST:
                manifest = {"artifact_id": "a" * 24, "run_name": "run", "backbone": "clip-mini", "metrics": {}}
                value = [manifest | {"created_at": "2025-01-01T00:00:00+00:00"}]
            case _:
                raise InvalidInput(endpoint)
        return DocumentArray([reply(value)])

    @property
    def left(self) -> list[str]:
        """The uploads that were not committed, and the datasets."""
        folder = self.datasets._folder
        uploads = folder / "uploads"
        return [*(path.name for path in uploads.glob("*")), *(dataset.name for dataset in self.datasets.all())]

    def upload(self, content: bytes, **fields: str) -> httpx.Response:
        """Upload a stream as a multipart form."""
        body, kind = form(content, **fields)
        headers = {**HEADERS, "content-type": kind}
        return plain_http.post(f"{self.http}{RPC}artifact.upload", content=body, headers=headers)


@pytest.fixture(scope="module")
def served() -> Iterator[Rooms]:
    """The app behind a real socket, with a token. `rooms` gives it a workspace."""
    handler = Rooms()
    listening = socket.create_server(("127.0.0.1", 0))
    handler.http = f"http://127.0.0.1:{listening.getsockname()[1]}"
    app = build_app(handler, Access(TOKEN))  # type: ignore[arg-type]
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield handler
    server.should_exit = True
    thread.join(60)


@pytest.fixture
def rooms(served: Rooms, tmp_path: Path) -> Rooms:
    """The app with an empty workspace."""
    served.datasets, served.parts = Datasets(Workspace(tmp_path / "workspace")), []
    return served


@pytest.fixture
def logged_in(rooms: Rooms, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (hub.ADDRESS, hub.TOKEN, hub.HINT, HTTP):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(docarray_hub, "__cache_path__", str(tmp_path / "cache"))
    hub.point_hub(Connection(rooms.http, TOKEN))
