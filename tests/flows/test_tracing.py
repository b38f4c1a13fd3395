"""OpenTelemetry by Jina's switches, as flows/README.md shows them, with a collector that keeps what it gets."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from docarray import Document, DocumentArray
from jina import Client
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc

from finetuner.contract.wire import ENCODE
from finetuner.flow.running_flow import RunningFlow
from finetuner.flow.settings import flow_file

README = (flow_file().parent / "README.md").read_text()
SERVICES = {"gateway/rep-0", "text_encoder/rep-0", "vision_encoder/rep-0"}


class Collector(trace_service_pb2_grpc.TraceServiceServicer):  # type: ignore[misc]  # grpc is not typed
    """Keeps the services that sent spans, and tells when all of `SERVICES` have."""

    def __init__(self) -> None:
        self.services: set[str] = set()
        self.complete = threading.Event()

    def Export(self, request: Any, context: Any) -> Any:  # noqa: N802  # as the protocol calls it
        for spans in request.resource_spans:
            names = {each.key: each.value.string_value for each in spans.resource.attributes}
            self.services.add(names["service.name"])
        if self.services >= SERVICES:
            self.complete.set()
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.fixture
def collector() -> Iterator[tuple[Collector, int]]:
    """A collector and its port."""
    kept, server = Collector(), grpc.server(ThreadPoolExecutor(2))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(kept, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield kept, port
    server.stop(None).wait()


@pytest.mark.slow
def test_a_traced_flow_serves_and_its_rooms_send_spans(tmp_path: Path, collector: tuple[Collector, int]) -> None:
    kept, port = collector
    content = yaml.safe_load(flow_file("encode").read_text())
    switches = yaml.safe_load(re.search(r"```yaml\n( +tracing:.*?)```", README, re.DOTALL)[1])  # type: ignore[index]
    content["with"] |= switches | {"traces_exporter_port": port}
    for room in (content["gateway"], *content["executors"]):
        room["uses"] = str((flow_file().parent / room["uses"]).resolve())
        if "replicas" in room:
            room["replicas"], room["port_monitoring"] = 1, room["port_monitoring"][0]
    path = tmp_path / "traced.yml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    with RunningFlow(tmp_path / "workspace", flow=path) as running:
        (found,) = Client(host=running.host).post(ENCODE, DocumentArray([Document(text="a red dress")]))
        assert found.embedding is not None
        assert kept.complete.wait(200), f"spans of {kept.services} alone"
