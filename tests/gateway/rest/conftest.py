"""The routes of artifact zips and the hub, in front of a trainer in this process."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from docarray import DocumentArray
from fastapi import FastAPI
from jina.types.request.data import DataRequest

from finetuner.contract import wire
from finetuner.executors.gateway.access.access import Access
from finetuner.executors.gateway.access.metrics import GatewayMetrics
from finetuner.executors.gateway.flow.rooms import Rooms
from finetuner.executors.gateway.hub.hub import hub_routes
from finetuner.executors.gateway.rest import v1_artifact_zip, v1_library, v1_uploads
from finetuner.executors.trainer import supervisor
from finetuner.executors.trainer.artifacts import upload_checks
from finetuner.executors.trainer.artifacts.model_check import check_here
from finetuner.executors.trainer.executor import Trainer


@dataclass
class Handler:
    """A gateway's handler whose only room is a trainer in this process, and the client of its routes."""

    http: str
    client: httpx.Client
    trainer: Trainer = field(init=False)
    metrics: GatewayMetrics = field(default_factory=lambda: GatewayMetrics(None))
    logger: logging.Logger = field(default_factory=lambda: logging.getLogger("test"))
    parts: list[int] = field(default_factory=list)

    async def process_single_data(self, request: DataRequest, context: Any = None) -> DataRequest:
        endpoint, parameters = request.header.exec_endpoint, dict(request.parameters)
        docs = request.docs
        if len(docs):
            self.parts.append(len(docs[0].blob))
        answer = DataRequest()
        answer.header.exec_endpoint = endpoint
        beside = {
            wire.ARTIFACTS_PUSH: self.trainer.push_artifact,
            wire.DATASETS_UPLOAD: self.trainer.upload_file,
            wire.DATASETS_STATS: self.trainer.describe_dataset,
        }
        if endpoint in beside:
            answer.data.docs = await beside[endpoint](docs=docs, parameters=parameters)
        else:
            room: Callable[..., DocumentArray] = {
                wire.ARTIFACTS_PULL: self.trainer.pull_artifact,
                wire.ARTIFACTS_LIST: self.trainer.list_artifacts,
                wire.DATASETS_LIST: self.trainer.list_datasets,
            }[endpoint]
            answer.data.docs = room(docs=docs, parameters=parameters)
        return answer

    def put(self, content: bytes, **headers: str) -> httpx.Response:
        """Upload a zip."""
        headers = {"content-type": "application/zip", **headers}
        return self.client.post(f"{self.http}/v1/artifacts", content=content, headers=headers)

    def get(self, reference: str) -> httpx.Response:
        """Download a zip."""
        return self.client.get(f"{self.http}/v1/artifacts/{reference}/zip")

    def folder(self, artifact_id: str) -> Path:
        return self.trainer.shared_workspace.artifacts / artifact_id

    def restart(self, **settings: Any) -> None:
        """Start the trainer again, with settings."""
        root = self.trainer.shared_workspace.root
        self.trainer.close()
        self.trainer = Trainer(workspace_url=str(root), **settings)

    @property
    def left(self) -> list[str]:
        """The files among the artifacts, including those of uploads."""
        found = self.trainer.shared_workspace.artifacts.rglob("*")
        return sorted(
            path.relative_to(self.trainer.shared_workspace.artifacts).as_posix() for path in found if path.is_file()
        )


@pytest.fixture(scope="session")
def served() -> Iterator[Handler]:
    """The routes behind a real socket. `handler` gives them a trainer."""
    listening = socket.create_server(("127.0.0.1", 0))
    with httpx.Client(timeout=60) as client:
        handler, app = Handler(f"http://127.0.0.1:{listening.getsockname()[1]}", client), FastAPI()
        app.state.handler, app.state.rooms = handler, Rooms(handler)  # type: ignore[arg-type]
        for module in (v1_artifact_zip, v1_library, v1_uploads):
            app.include_router(module.routes)
        app.include_router(hub_routes(handler, app.state.rooms, Access(None)))  # type: ignore[arg-type]
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        yield handler
        server.should_exit = True
        thread.join(60)


@pytest.fixture
def handler(served: Handler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Handler]:
    """The routes in front of a new workspace."""
    monkeypatch.setattr(supervisor, "POLL_SECONDS", 3600)
    monkeypatch.setattr(upload_checks, "check_models", check_here)  # a process for each upload takes seconds
    served.trainer, served.parts = Trainer(workspace_url=str(tmp_path / "workspace")), []
    yield served
    served.trainer.close()
