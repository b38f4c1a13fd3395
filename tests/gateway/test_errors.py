"""Every refusal of the gateway names its class, over both protocols, and our client raises it."""

from __future__ import annotations

import http.client
import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest
from docarray import Document, DocumentArray
from jina import Client
from jina.excepts import InternalNetworkError
from jina.proto import jina_pb2, jina_pb2_grpc
from jina.types.request.data import DataRequest, SingleDocumentRequest

from finetuner import exceptions
from finetuner.contract.wire import ERROR_METADATA, MAX_MESSAGE_BYTES
from finetuner.exceptions import (
    FinetunerError,
    FinetunerServerError,
    FlowUnreachable,
    Forbidden,
    InvalidInput,
    NotFound,
    ResourceExhausted,
    Unauthorized,
)
from finetuner.executors.gateway.access.access import RateLimited
from finetuner.executors.gateway.access.errors import class_of, name_of
from finetuner.executors.gateway.flow.outages import outage
from finetuner.transport.connection import Connection
from finetuner.workspace.tokens import TokenFile
from tests import plain_http
from tests.gateway.conftest import TOKEN, ToyFlow, run_toy_flow
from tests.room.version_2 import VERSION_2, VERSION_2_ARRAY, written


def test_names_are_those_of_the_public_classes() -> None:
    for kind in vars(exceptions).values():
        if inspect.isclass(kind) and issubclass(kind, FinetunerError):
            assert name_of(kind("x")) == kind.__name__
    assert name_of(RateLimited("x", 1.0)) == "ResourceExhausted"
    assert [class_of(status).__name__ for status in (401, 404, 405, 408, 413, 422, 500, 503)] == [
        "Unauthorized", "NotFound", "InvalidInput", "InvalidInput", "InvalidInput", "InvalidInput",
        "FinetunerServerError", "FinetunerServerError",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "path", "sent", "status", "kind"),
    [
        ("POST", "/encode", {"content": b"{"}, 422, "InvalidInput"),
        ("POST", "/serach", {"json": {}}, 404, "NotFound"),
        ("POST", "/encode", {"json": {"data": [{"text": "raise"}]}}, 500, "FinetunerServerError"),
        ("POST", "/v1/encode", {"json": {}}, 422, "InvalidInput"),
        ("POST", "/v1/encode", {"content": b"{"}, 422, "InvalidInput"),
        ("POST", "/v1/evaluate", {"content": b" " * 2**21}, 413, "InvalidInput"),
        ("GET", "/v1/runs?page=0", {}, 422, "InvalidInput"),
        ("GET", "/v1/datasets/-x", {}, 422, "InvalidInput"),
        ("GET", "/v1/datasets", {}, 404, "NotFound"),
        ("GET", "/nowhere", {}, 404, "NotFound"),
        ("GET", "/v1/nowhere", {}, 404, "NotFound"),
        ("DELETE", "/nowhere/at/all", {}, 404, "NotFound"),
        ("GET", "/encode", {}, 405, "InvalidInput"),
        ("GET", "/v1/encode", {}, 405, "InvalidInput"),
        ("PUT", "/v1/runs", {}, 405, "InvalidInput"),
        ("GET", "/ui/nothing.js", {}, 404, "NotFound"),
        ("POST", "/v2/rpc/artifact.delete", {}, 422, "InvalidInput"),
        ("GET", "/v2/download/x", {}, 403, "Forbidden"),
        ("POST", "/encode", {"json": {}, "headers": {"origin": "https://evil.example"}}, 403, "Forbidden"),
    ],
)
def test_an_http_error_names_its_class(
    open_flow: ToyFlow, method: str, path: str, sent: dict[str, Any], status: int, kind: str
) -> None:
    answer = plain_http.request(method, open_flow.http + path, **sent)
    assert (answer.status_code, answer.json()["type"]) == (status, kind)
    assert len(answer.json()["detail"].split()) > 3, "a sentence"
    assert issubclass(getattr(exceptions, kind), FinetunerError)


def test_a_body_past_the_limit_names_its_class(open_flow: ToyFlow) -> None:
    connection = http.client.HTTPConnection(urlsplit(open_flow.http).netloc, timeout=30)
    connection.putrequest("POST", "/v1/encode")
    connection.putheader("Content-Length", str(4 * MAX_MESSAGE_BYTES))
    connection.endheaders()
    connection.send(b" " * (MAX_MESSAGE_BYTES + 1))
    answer = connection.getresponse()
    assert answer.status == 413
    assert b'"type":"InvalidInput"' in answer.read().replace(b" ", b"")
    connection.close()


def test_openapi_describes_the_body_of_errors(open_flow: ToyFlow) -> None:
    content = plain_http.get(f"{open_flow.http}/openapi.json").json()
    failure = content["components"]["schemas"]["Failure"]
    assert failure["required"] == ["detail", "type", "error"]


def test_grpc_names_the_class_of_each_refusal(open_flow: ToyFlow, locked_flow: ToyFlow) -> None:
    pickled = jina_pb2.DataRequestProto()
    pickled.header.exec_endpoint = "/encode"
    pickled.data.docs_bytes = DocumentArray([Document(text="dress")]).to_bytes()
    asked = DataRequest()
    asked.header.exec_endpoint = "/encode"
    single = jina_pb2_grpc.JinaSingleDataRequestRPCStub
    documents = jina_pb2_grpc.JinaSingleDocumentRequestRPCStub
    calls: list[tuple[ToyFlow, Any, str]] = [
        (open_flow, lambda channel: next(jina_pb2_grpc.JinaRPCStub(channel).Call(iter([DataRequest(pickled)]))), "In"),
        (open_flow, lambda channel: single(channel).process_single_data(DataRequest(pickled)), "InvalidInput"),
        (open_flow, lambda channel: next(iter(documents(channel).stream_doc(SingleDocumentRequest()))), "InvalidInput"),
        (locked_flow, lambda channel: single(channel).process_single_data(asked), "Unauthorized"),
        (locked_flow, lambda channel: next(jina_pb2_grpc.JinaRPCStub(channel).Call(iter([asked]))), "Unauthorized"),
    ]
    for flow, call, kind in calls:
        with grpc.insecure_channel(flow.grpc.removeprefix("grpc://")) as channel:
            with pytest.raises(grpc.RpcError) as refused:
                call(channel)
            assert dict(refused.value.trailing_metadata())[ERROR_METADATA].startswith(kind)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_our_client_raises_the_class_and_the_message(open_flow: ToyFlow, locked_flow: ToyFlow, protocol: str) -> None:
    for token, message in (("", "needs a token. Got none"), ("wrong", "must belong to this Flow. Got another one")):
        with pytest.raises(Unauthorized, match=message):
            Connection(getattr(locked_flow, protocol), token).call("/runs/list")
    assert "experiment" not in Connection(getattr(locked_flow, protocol), TOKEN).call("/runs/list")
    connection = Connection(getattr(open_flow, protocol))
    with pytest.raises(NotFound, match=r"endpoint must be one that a room of .* binds.* Got '/serach'"):
        connection.call("/serach")
    with pytest.raises(FinetunerServerError, match=r"/encode failed at .*as the test asked"):
        connection.post("/encode", DocumentArray([Document(text="raise")]))


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("documents", [0, 2])
def test_grpc_refuses_an_endpoint_that_no_room_binds(open_flow: ToyFlow, stream: bool, documents: int) -> None:
    """Jina would skip every room, and return the documents unchanged."""
    content = DocumentArray([Document(text="dress") for _ in range(documents)])
    with pytest.raises(ConnectionError, match=r"NOT_FOUND endpoint must be one that a room of this Flow binds: /"):
        Client(host=open_flow.grpc).post("/serach", content, stream=stream)


@pytest.mark.parametrize("endpoint", ["/encode", "/search"])
@pytest.mark.parametrize("documents", [VERSION_2, VERSION_2_ARRAY])
def test_grpc_refuses_documents_of_docarray_v2(open_flow: ToyFlow, endpoint: str, documents: bytes) -> None:
    asked = jina_pb2.DataRequestProto()
    asked.header.exec_endpoint = endpoint
    content = asked.SerializeToString() + written(4, written(1, written(1, documents)))
    with grpc.insecure_channel(open_flow.grpc.removeprefix("grpc://")) as channel:
        stream = channel.stream_stream("/jina.JinaRPC/Call")
        single = channel.unary_unary("/jina.JinaSingleDataRequestRPC/process_single_data")
        for call in (lambda: next(stream(iter([content]), timeout=100)), lambda: single(content, timeout=100)):
            with pytest.raises(grpc.RpcError, match="Documents must be those of DocArray v1") as refused:
                call()
            assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.flow
def test_roles_and_rates_arrive_by_both_protocols(tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    secret = TokenFile(workspace).create("ci", "read")
    settings = {"workspace_url": str(workspace), "rate_limit": 0.1}
    with run_toy_flow(tmp_path, "ToyVision", None, settings=settings) as flow:
        for host in (flow.grpc, flow.http):
            connection = Connection(host, secret)
            with pytest.raises((Forbidden, ResourceExhausted)) as first:
                connection.call("/fit")
            with pytest.raises(ResourceExhausted, match=r"limited number of requests per second.* Try again in"):
                connection.call("/runs/list")
            if host == flow.grpc:  # the first request of this token
                assert first.type is Forbidden
                assert "role must be write for '/fit'. Got read, of the token 'ci'." in str(first.value)


class Replicas:
    """Jina's list of the connections to one room."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    def get_all_connections(self) -> list[Any]:
        return [SimpleNamespace(address=address) for address in self.addresses]


def streamer() -> Any:
    rooms = {"trainer": Replicas("127.0.0.1:1"), "indexer": Replicas("127.0.0.1:2", "127.0.0.1:3"), "end": None}
    connections = SimpleNamespace(get_replicas=lambda name, head: rooms[name])
    graph = SimpleNamespace(all_nodes=[SimpleNamespace(name=name) for name in rooms])
    return SimpleNamespace(_connection_pool=SimpleNamespace(_connections=connections), topology_graph=graph)


def network_error(code: grpc.StatusCode, address: str, **metadata: str) -> InternalNetworkError:
    trailing = grpc.aio.Metadata(*((name.replace("_", "-"), value) for name, value in metadata.items()))
    cause = grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, "some\ntext")
    return InternalNetworkError(cause, dest_addr={address})


def test_a_network_error_names_the_room() -> None:
    down = outage(network_error(grpc.StatusCode.UNAVAILABLE, "127.0.0.1:3"), streamer(), "/search")
    assert type(down) is FlowUnreachable
    assert str(down).startswith("indexer must answer /search. It is down.")
    slow = outage(network_error(grpc.StatusCode.DEADLINE_EXCEEDED, "127.0.0.1:1"), streamer(), "/fit")
    assert isinstance(slow, FinetunerServerError)
    assert (slow.code, str(slow)) == (504, "trainer must answer /fit. It did not (504): some text")
    unknown = outage(network_error(grpc.StatusCode.UNAVAILABLE, "127.0.0.1:9"), streamer(), "/fit")
    assert str(unknown).startswith("a room of the Flow must answer /fit")
    refused = network_error(grpc.StatusCode.INVALID_ARGUMENT, "127.0.0.1:1", finetuner_error="InvalidInput")
    assert type(outage(refused, streamer(), "/fit")) is InvalidInput
