"""Jina's private parts that the gateway builds on: they exist as we use them, and our changes are still needed."""

from __future__ import annotations

import inspect
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI
from jina.constants import __default_endpoint__
from jina.serve.networking.connection_pool_map import _ConnectionPoolMap
from jina.serve.networking.connection_stub import _ConnectionStubs
from jina.serve.networking.replica_list import _ReplicaList
from jina.serve.runtimes.gateway.async_request_response_handling import AsyncRequestResponseHandler
from jina.serve.runtimes.gateway.graph.topology_graph import TopologyGraph
from jina.serve.runtimes.gateway.request_handling import GatewayRequestHandler
from jina.serve.runtimes.gateway.streamer import GatewayStreamer
from jina.serve.runtimes.helper import _SPECIFIC_EXECUTOR_SEPARATOR
from jina.serve.runtimes.servers import BaseServer
from jina.serve.runtimes.servers.composite import CompositeBaseServer
from jina.serve.runtimes.servers.grpc import GRPCServer
from jina.serve.runtimes.servers.http import FastAPIBaseServer, _install_health_check
from jina.serve.stream import RequestStreamer
from jina.serve.stream.helper import AsyncRequestsIterator

from finetuner.executors.gateway.flow import direct


def parameters_of(function: Any) -> list[str]:
    return [name for name in inspect.signature(function).parameters if name != "self"]


def test_the_composite_server_makes_servers_that_share_its_handler() -> None:
    made = object.__new__(CompositeBaseServer)
    made._kwargs = {"title": "a", "runtime_args": {}}
    made.runtime_args = SimpleNamespace(port=[1, 2], protocol=["GRPC", "HTTP"])
    made._request_handler = handler = object()
    servers = made._server_kwargs
    assert [server["req_handler"] for server in servers] == [handler, handler]
    assert [server["runtime_args"]["port"] for server in servers] == [1, 2]
    assert [server["title"] for server in servers] == ["a", "a"]


def test_jina_takes_the_handler_from_its_arguments() -> None:
    """So `FinetunerGateway._get_request_handler` must set `req_handler_cls`."""
    assert "self.req_handler_cls(" in inspect.getsource(BaseServer._get_request_handler)
    assert "req_handler or self._get_request_handler()" in inspect.getsource(BaseServer.__init__)


def test_the_grpc_server_asks_for_interceptors_in_its_constructor() -> None:
    assert "grpc_server_options" in parameters_of(GRPCServer.__init__)
    assert "self.aio_tracing_server_interceptors()" in inspect.getsource(GRPCServer.__init__)


def test_the_http_server_reads_the_app_once_and_has_options_of_uvicorn() -> None:
    assert isinstance(FastAPIBaseServer.app, property)
    assert inspect.getsource(FastAPIBaseServer.setup_server).count("self.app\n") == 1
    assert "uvicorn_kwargs" in parameters_of(FastAPIBaseServer.__init__)


def test_jina_warns_about_a_page_at_the_root(caplog: pytest.LogCaptureFixture) -> None:
    app = FastAPI()
    app.get("/")(lambda: None)
    _install_health_check(app, logging.getLogger("jina-test"))
    assert "used for health checks" in caplog.text


def test_the_handler_has_the_methods_that_ours_replaces() -> None:
    expected = {
        "stream": ["request_iterator", "context", "args", "kwargs"],
        "stream_doc": ["request", "context"],
        "process_single_data": ["request", "context"],
        "endpoint_discovery": ["empty", "context"],
        "_status": ["empty", "context"],
        "dry_run": ["empty", "context"],
    }
    assert {name: parameters_of(getattr(GatewayRequestHandler, name)) for name in expected} == expected
    assert GatewayRequestHandler.Call is GatewayRequestHandler.stream


def test_jinas_endpoint_discovery_reads_schemas_of_docarray_v2() -> None:
    source = inspect.getsource(GatewayRequestHandler.endpoint_discovery)
    assert "_get_endpoints_input_output_models" in source
    assert "self.streamer.topology_graph._get_all_endpoints" in source


def test_the_graph_keeps_the_endpoints_of_each_room_in_messages_that_it_copies() -> None:
    assert parameters_of(TopologyGraph._get_all_endpoints)[0] == "connection_pool"
    assert isinstance(TopologyGraph.all_nodes, property)
    node = TopologyGraph._ReqReplyNode(name="room")
    assert node.endpoints is None
    assert node._endpoints_proto is None
    assert "if self._endpoints_proto is None" in inspect.getsource(type(node))


def test_the_pool_lists_the_replicas_of_a_room() -> None:
    assert parameters_of(_ConnectionPoolMap.get_replicas)[:2] == ["deployment", "head"]
    assert parameters_of(_ReplicaList.get_all_connections) == []
    assert parameters_of(_ReplicaList.reset_connection) == ["address", "deployment_name"]
    assert "timeout" in parameters_of(_ConnectionStubs.send_discover_endpoint)


def test_jinas_stream_turns_its_loop_while_it_waits_and_forgets_its_tasks() -> None:
    """So `Handler.stream` has its own, and sends each request with Jina's handler of one."""
    assert "await asyncio.sleep(0)" in inspect.getsource(AsyncRequestsIterator.__anext__)
    assert ".cancel()" not in inspect.getsource(RequestStreamer._stream_requests)
    source = inspect.getsource(GatewayStreamer.__init__)
    assert "self._streamer = RequestStreamer(" in source
    assert "request_handler=request_handler.handle_request(" in source
    assert parameters_of(RequestStreamer.__init__)[:2] == ["request_handler", "result_handler"]
    handled = inspect.getsource(AsyncRequestResponseHandler.handle_request)
    assert "request: 'Request', return_type" in handled
    assert "re.match" in inspect.getsource(TopologyGraph._ReqReplyNode._wait_previous_and_send), "of target_executor"


def test_the_short_way_makes_the_calls_of_the_graph() -> None:
    """`flow/direct.py` sends as a node of the graph does, and measures as the handler of the graph does."""
    handled = AsyncRequestResponseHandler(None, None, "a").handle_request(TopologyGraph({}), None)
    assert isinstance(inspect.getclosurevars(handled).nonlocals["self"], AsyncRequestResponseHandler)
    for name in ("start_request", "end_request", "end_failed_requests"):
        assert hasattr(AsyncRequestResponseHandler, f"_update_{name}_metrics")
    sent = inspect.getsource(TopologyGraph._ReqReplyNode._wait_previous_and_send)
    for argument in (
        "requests=self.parts_to_send", "deployment=self.name", "metadata=self._metadata", "head=True",
        "endpoint=endpoint", "timeout=self._timeout_send", "retries=self._retries",
    ):  # fmt: skip
        assert argument in sent
    assert "if metadata and 'is-error' in metadata" in sent
    assert _SPECIFIC_EXECUTOR_SEPARATOR == direct.SEPARATOR
    assert __default_endpoint__ == direct.DEFAULT


def chain(**outgoing: list[str]) -> list[str]:
    graph = TopologyGraph({"start-gateway": ["a"], **outgoing, "end-gateway": []})
    for node in graph.all_nodes:
        if node.name != direct.END:
            node.endpoints = ("/encode",)
    return [node.name for node in direct._chain(graph)]


def test_the_short_way_is_for_rooms_in_one_line() -> None:
    assert chain(a=["b"], b=["end-gateway"]) == ["a", "b"]
    assert chain(a=["b", "c"], b=["d"], c=["d"], d=["end-gateway"]) == []
    assert chain(a=["b", "end-gateway"], b=[]) == []
