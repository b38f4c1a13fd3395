"""Errors of a gateway arrive as the exception that it named, over gRPC and HTTP."""

from __future__ import annotations

import asyncio
import http.server
import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import grpc
import pytest
from jina.proto import jina_pb2, jina_pb2_grpc
from jina.types.request.data import DataRequest

from finetuner import exceptions
from finetuner.contract.wire import ERROR_METADATA
from finetuner.exceptions import (
    FinetunerError,
    FinetunerServerError,
    FlowUnreachable,
    Forbidden,
    NotFound,
    ResourceExhausted,
    Unauthorized,
)
from finetuner.transport.connection import Connection

CLASSES = sorted(
    {each for each in vars(exceptions).values() if isinstance(each, type) and issubclass(each, FinetunerError)},
    key=lambda each: each.__name__,
)
TEXT = "x must be y. Got a token, 'StatusCode.UNAVAILABLE' and role must. Send another."
CODE = grpc.StatusCode


class GrpcGateway(jina_pb2_grpc.JinaSingleDataRequestRPCServicer):  # type: ignore[misc]  # jina is not typed
    """Ends each call with one error, or with an answer if there is one."""

    answer: Any = None

    def __init__(self) -> None:
        self.error: tuple[grpc.StatusCode, str, tuple[tuple[str, str], ...]] = (CODE.INTERNAL, "", ())

    async def process_single_data(self, request: Any, context: Any) -> Any:
        return self.answer or await context.abort(*self.error)


class HttpGateway(http.server.BaseHTTPRequestHandler):
    """Answers each request with one status and body."""

    answer: tuple[int, bytes] = (500, b"")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, content = self.answer
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if content.startswith(b"{") else "text/plain")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def by_grpc() -> Iterator[tuple[GrpcGateway, Connection]]:
    gateway, ready, loop = GrpcGateway(), Future[int](), asyncio.new_event_loop()
    ended = asyncio.Event()

    async def serve() -> None:
        server = grpc.aio.server()
        jina_pb2_grpc.add_JinaSingleDataRequestRPCServicer_to_server(gateway, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        ready.set_result(port)
        await ended.wait()
        await server.stop(None)

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    yield gateway, Connection(f"grpc://127.0.0.1:{ready.result(60)}")
    loop.call_soon_threadsafe(ended.set)
    thread.join(60)


@pytest.fixture(scope="module")
def by_http() -> Iterator[tuple[type[HttpGateway], Connection]]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), HttpGateway) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield HttpGateway, Connection(f"http://127.0.0.1:{running.server_port}")
        running.shutdown()


def raised(connection: Connection) -> Exception:
    with pytest.raises(FinetunerError) as caught:
        connection.post("/fit")
    assert "\n" not in str(caught.value)
    return caught.value


def expected_message(kind: type[FinetunerError], host: str) -> str:
    return f"/fit failed at {host}: {TEXT}" if kind is FinetunerServerError else TEXT


@pytest.mark.parametrize("kind", CLASSES)
def test_the_named_class_arrives_by_grpc(by_grpc: tuple[GrpcGateway, Connection], kind: type[FinetunerError]) -> None:
    gateway, connection = by_grpc
    # Jina raises another exception for each of these
    for code in (CODE.UNAVAILABLE, CODE.INTERNAL, CODE.NOT_FOUND, CODE.INVALID_ARGUMENT):
        gateway.error = (code, TEXT, ((ERROR_METADATA, kind.__name__), ("retry-after", "0.2")))
        error = raised(connection)
        assert (type(error), str(error)) == (kind, expected_message(kind, connection.host))


@pytest.mark.parametrize("kind", CLASSES)
def test_the_named_class_arrives_by_http(
    by_http: tuple[type[HttpGateway], Connection], kind: type[FinetunerError]
) -> None:
    gateway, connection = by_http
    for status in (401, 403, 413, 422, 429, 500, 503, 504):
        gateway.answer = (status, json.dumps({"detail": TEXT, "type": kind.__name__}).encode())
        error = raised(connection)
        assert (type(error), str(error)) == (kind, expected_message(kind, connection.host))


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (CODE.UNAUTHENTICATED, Unauthorized),
        (CODE.PERMISSION_DENIED, Forbidden),
        (CODE.UNAVAILABLE, FlowUnreachable),
        (CODE.RESOURCE_EXHAUSTED, FinetunerServerError),  # gRPC's own, for a message that is too large
        (CODE.INTERNAL, FinetunerServerError),
        (CODE.UNKNOWN, FinetunerServerError),
        (CODE.UNIMPLEMENTED, FlowUnreachable),
        (CODE.DEADLINE_EXCEEDED, FinetunerServerError),
    ],
)
def test_without_a_name_the_grpc_status_decides(
    by_grpc: tuple[GrpcGateway, Connection], code: grpc.StatusCode, kind: type[FinetunerError]
) -> None:
    gateway, connection = by_grpc
    gateway.error = (code, TEXT, ())
    assert type(raised(connection)) is kind


def test_the_class_arrives_in_an_except_block(by_grpc: tuple[GrpcGateway, Connection]) -> None:
    gateway, connection = by_grpc
    gateway.error = (CODE.UNAVAILABLE, TEXT, ((ERROR_METADATA, "ResourceExhausted"),))
    try:
        raise RuntimeError("an error that the caller handles")
    except RuntimeError:
        assert type(raised(connection)) is ResourceExhausted


def test_an_unknown_name_is_a_server_error(by_grpc: tuple[GrpcGateway, Connection]) -> None:
    gateway, connection = by_grpc
    gateway.error = (CODE.INVALID_ARGUMENT, TEXT, ((ERROR_METADATA, "SystemExit"),))
    assert type(raised(connection)) is FinetunerServerError


@pytest.mark.parametrize(
    ("status", "content", "kind", "message"),
    [
        (404, b"{}", NotFound, "endpoint must be one that a room of the Flow at http.* binds. Got '/fit'"),
        (500, b'{"detail": "boom"}', FinetunerServerError, "/fit failed at http.*: boom"),
        (
            200,
            b'{"header": {"status": {"code": 1, "description": "boom"}}, "data": []}',
            FinetunerServerError,
            "/fit failed at http.*: boom",
        ),
        (
            200,
            b"no JSON",
            FlowUnreachable,
            "Flow must answer at http.*Got status 200 and 'no JSON'.*proxy",
        ),
        (200, b'{"service": "another"}', FlowUnreachable, 'Got status 200 and \'{"service": "another"}\''),
        (502, b"<html>no gateway</html>", FlowUnreachable, "Got status 502 and '<html>no gateway</html>'"),
    ],
)
def test_an_http_answer_without_a_name(
    by_http: tuple[type[HttpGateway], Connection],
    status: int,
    content: bytes,
    kind: type[FinetunerError],
    message: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    gateway, connection = by_http
    gateway.answer = (status, content)
    with pytest.raises(kind, match=message) as caught:
        connection.post("/fit")
    assert type(caught.value) is kind
    assert capfd.readouterr() == ("", "")


def test_a_rooms_exception_is_a_server_error(by_grpc: tuple[GrpcGateway, Connection]) -> None:
    gateway, connection = by_grpc
    gateway.answer = DataRequest()
    gateway.answer.header.status.code = jina_pb2.StatusProto.ERROR
    gateway.answer.header.status.description = "RuntimeError('boom')"
    error = raised(connection)
    gateway.answer = None
    expected = f"/fit failed at {connection.host}: RuntimeError('boom')"
    assert (type(error), str(error)) == (FinetunerServerError, expected)
