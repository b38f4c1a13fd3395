"""gRPC connections that send more than their calls carry. The server is a real one, the bytes those that arrive."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import count
from typing import Any

import grpc
import pytest
from jina.logging.logger import JinaLogger

from finetuner.executors.gateway.access import intake as module
from finetuner.executors.gateway.access.intake import Intake, counted
from finetuner.executors.gateway.access.peers import Peer, peer_of
from finetuner.executors.gateway.gateway import CONNECTION_OPTIONS
from tests.benchmarks.attacks.frames import PREFACE, frame, head_of, literal
from tests.waiting import wait_until

MOST = 2**20
HEADERS = literal(b"x" * 100, b"y" * 100) * 50


@dataclass
class Message:
    """A request as Jina has it, with the bytes that it came in."""

    buffer: bytes


class Methods(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc is not typed
    """`/one/…` answers a message with its length (`stall` holds the event loop), `/each/…` each of a stream."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self.ended = threading.Event()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        async def one(request: Message, _: Any) -> bytes:
            if request.buffer == b"stall":
                time.sleep(1)  # as a large body does that is parsed
            return str(len(request.buffer)).encode()

        async def each(requests: AsyncIterator[Message], context: Any) -> AsyncIterator[bytes]:
            try:
                async for request in requests:
                    yield await one(request, context)
            finally:
                self.ended.set()

        if details.method.startswith("/one/"):
            return counted(grpc.unary_unary_rpc_method_handler(one, Message), self._intake)
        if details.method.startswith("/each/"):
            return counted(grpc.stream_stream_rpc_method_handler(each, Message), self._intake)
        return None


@dataclass
class Server:
    """A gRPC server whose connections an intake polls."""

    port: int
    intake: Intake
    methods: Methods

    def connect(self) -> socket.socket:
        """Open a connection that speaks HTTP/2 by hand."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        connection.sendall(PREFACE)
        return connection


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name, value in {"MAX_MESSAGE_BYTES": MOST, "BYTES_PER_SECOND": 0, "POLL_SECONDS": 0.01}.items():
        monkeypatch.setattr(module, name, value)
    loop, ready, started = asyncio.new_event_loop(), threading.Event(), []

    async def serve() -> None:
        served = grpc.aio.server(options=[*CONNECTION_OPTIONS.items(), ("grpc.max_receive_message_length", MOST)])
        port = served.add_insecure_port("127.0.0.1:0")
        intake = Intake(port, JinaLogger("intake"))
        methods = Methods(intake)
        served.add_generic_rpc_handlers((methods,))
        await served.start()
        intake.start()
        started.append(Server(port, intake, methods))
        ready.set()
        await over.wait()
        intake.stop()
        await served.stop(None)

    over = asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    ready.wait()
    yield started[0]
    loop.call_soon_threadsafe(over.set)
    thread.join()
    loop.close()


def ends(connection: socket.socket, content: Iterator[bytes]) -> int:
    """Send until the server has closed the connection, and return the bytes that were sent."""
    sent = 0
    with suppress(OSError):
        for part in content:
            connection.sendall(part)
            sent += len(part)
        while connection.recv(2**16):
            pass
    return sent


def headers_without_end(stream: int = 1) -> Iterator[bytes]:
    yield frame(1, 0, stream, head_of("/each/x"))
    while True:
        yield frame(9, 0, stream, HEADERS)


def resets() -> Iterator[bytes]:
    for stream in count(1, 2):
        yield frame(1, 4, stream, head_of("/none/x")) + frame(3, 0, stream, b"\0\0\0\x08")


@pytest.mark.seconds
@pytest.mark.parametrize("flood", [headers_without_end, resets], ids=["headers", "resets"])
def test_a_flood_ends_and_others_are_answered_meanwhile(
    server: Server, flood: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel, server.connect() as connection:
        one = channel.unary_unary("/one/x")
        assert one(b"before") == b"6"
        ends(connection, flood())
        assert one(b"afterwards") == b"10"
    assert "more than its calls carry" in caplog.text


def test_a_flood_beside_an_open_call_ends_past_one_message(server: Server) -> None:
    def content() -> Iterator[bytes]:
        yield frame(1, 4, 1, head_of("/each/x"))
        yield from headers_without_end(3)

    with server.connect() as connection:
        assert ends(connection, content()) > MOST


def test_strangers_share_what_one_may_send(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """None of four sends what one alone may. Once they have sent it together, one that has sent little is let alone."""
    with ExitStack() as held:
        small = held.enter_context(server.connect())
        connections = [held.enter_context(server.connect()) for _ in range(4)]
        for connection in connections:
            flood, sent = headers_without_end(), 0
            while sent <= module.BURST // 4 + len(HEADERS):
                sent += len(part := next(flood))
                with suppress(OSError):
                    connection.sendall(part)
        wait_until(lambda: "more than its calls carry" in caplog.text, "a reset")
        polled(server.intake)
        small.sendall(frame(6, 0, 0, b"12345678"))
        while (answer := small.recv(2**16)) and b"12345678" not in answer:
            pass
        assert answer
        with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
            assert channel.unary_unary("/one/x")(b"others") == b"6"


@pytest.fixture
def few_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONNECTION_OPTIONS, "grpc.max_concurrent_streams", 8)


@pytest.mark.seconds
def test_answered_calls_leave_no_stream_open(few_streams: None, server: Server) -> None:
    """A connection takes so many at the same time, and more than a thousand one after the other."""
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        one = channel.unary_unary("/one/x")
        for _ in range(400):
            calls = [one.future(b"x" * 600) for _ in range(4)]
            assert {call.result() for call in calls} == {b"600"}


def test_a_call_of_one_message_has_no_second_one(server: Server) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        several = channel.stream_unary("/one/x")
        assert several(iter([b"x"])) == b"1"
        for messages, got in (([], "none"), ([b"x", b"x"], "more")):
            with pytest.raises(grpc.RpcError) as caught:
                several(iter(messages))
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert caught.value.details().endswith(f"Got {got}.")


def test_large_messages_pass(server: Server) -> None:
    """Far more than the burst in all, several at a time."""
    content = b"x" * (MOST - 100)
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        one, each = channel.unary_unary("/one/x"), channel.stream_stream("/each/x")
        for _ in range(3):
            calls = [one.future(content) for _ in range(8)]
            assert {call.result() for call in calls} == {str(len(content)).encode()}
        assert list(each(iter([content] * 8))) == [str(len(content)).encode()] * 8
        assert one(b"on the same connection") == b"22"


def test_messages_pass_that_arrive_while_the_event_loop_stalls(server: Server) -> None:
    content = b"x" * (MOST - 100)
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        one = channel.unary_unary("/one/x")
        stalled = one.future(b"stall")
        calls = [one.future(content) for _ in range(64)]
        assert {call.result() for call in calls} == {str(len(content)).encode()}
        assert stalled.result() == b"5"


def test_a_message_that_its_caller_takes_back_ends_no_connection(server: Server) -> None:
    head = frame(1, 4, 1, head_of("/each/x"))
    part = frame(0, 0, 1, b"\0" + (MOST - 1).to_bytes(4, "big") + b"x" * 16_000)
    with server.connect() as connection:
        connection.sendall(head + part + frame(0, 0, 1, b"x" * 16_000) * 2)
        connection.sendall(frame(3, 0, 1, b"\0\0\0\x08"))
        server.methods.ended.wait()
        polled(server.intake)
        connection.sendall(frame(6, 0, 0, b"12345678"))
        while (answer := connection.recv(2**16)) and b"12345678" not in answer:
            pass
        assert answer


def polled(intake: Intake) -> None:
    """Wait until an intake has counted everything that has happened so far."""
    for _ in range(2):
        at = intake._polled_at
        wait_until(lambda at=at: intake._polled_at > at, "a poll")


def test_a_call_without_a_message_is_refused(server: Server) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel, pytest.raises(grpc.RpcError) as refused:
        channel.stream_unary("/one/x")(iter([]))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "one message. Got none" in refused.value.details()


@pytest.mark.parametrize(
    ("name", "peer"),
    [
        ("ipv4:127.0.0.1:5000", Peer("127.0.0.1", 5000)),
        ("ipv6:%5B::1%5D:5000", Peer("::1", 5000)),
        ("ipv6:[0:0::1]:5000", Peer("::1", 5000)),
        ("ipv6:%5B::ffff:10.0.0.1%5D:5000", Peer("10.0.0.1", 5000)),
        ("ipv6:%5Bfe80::1%25eth0%5D:5000", Peer("fe80::1", 5000)),
    ],
)
def test_peers_by_the_names_that_grpc_gives_them(name: str, peer: Peer) -> None:
    assert peer_of(name) == peer
