"""Connections of callers that send nothing, or little by little."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import grpc
import httpx
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from finetuner.executors.gateway.access import connections
from finetuner.executors.gateway.access.connections import bounded_connections
from finetuner.executors.gateway.gateway import CONNECTION_OPTIONS, CONNECTIONS
from tests import plain_http
from tests.waiting import wait_until

MOST = 8
SECONDS = 0.3


async def slow(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer after longer than a head may take."""
    if scope["path"] == "/slow":
        await asyncio.sleep(2 * SECONDS)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    """A server with MOST connections, whose heads take at most SECONDS."""
    monkeypatch.setattr(connections, "HEAD_SECONDS", SECONDS)
    settings: dict[str, Any] = {"host": "127.0.0.1", "port": 0, "lifespan": "off", "log_level": "critical"}
    config = uvicorn.Config(slow, http=bounded_connections(MOST), timeout_keep_alive=1, **settings)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started, "the server")
    yield server.servers[0].sockets[0].getsockname()
    server.should_exit = True
    thread.join()


def drip(connection: socket.socket) -> None:
    """Send byte after byte until the connection breaks."""
    with suppress(OSError):
        while True:
            connection.sendall(b"G")
            threading.Event().wait(SECONDS / 10)


def ends(connection: socket.socket) -> bool:
    """Wait until the server has closed a connection."""
    connection.settimeout(60)
    try:
        while connection.recv(1000):
            pass
    except ConnectionResetError:
        pass
    return True


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HTT", b"GET / HTTP/1.1\r\nHost: x\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /"]
)
def test_a_head_that_does_not_end_ends_the_connection(address: tuple[str, int], sent: bytes) -> None:
    with socket.create_connection(address) as connection:
        connection.sendall(sent)
        assert ends(connection)


def test_a_head_that_comes_byte_by_byte_ends_the_connection(address: tuple[str, int]) -> None:
    with socket.create_connection(address) as connection:
        dripping = threading.Thread(target=drip, args=(connection,))
        dripping.start()
        assert ends(connection)
        dripping.join()


def test_a_slow_answer_and_a_kept_connection_are_no_slow_head(address: tuple[str, int]) -> None:
    with httpx.Client(base_url="http://{}:{}".format(*address)) as client:
        for path in ("/slow", "/", "/slow"):
            assert client.get(path).text == "ok"


def test_one_address_has_half_of_the_connections(address: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 60)  # they stay until the test ends them
    with ExitStack() as held:
        for _ in range(MOST // 2):
            held.enter_context(socket.create_connection(address))
        wait_until(
            lambda: plain_http.get("http://{}:{}".format(*address)).status_code == 503, "all of them to be counted"
        )
        other = httpx.HTTPTransport(local_address="127.0.0.2")
        with httpx.Client(transport=other, base_url="http://{}:{}".format(*address)) as client:
            assert client.get("/").text == "ok"
    with httpx.Client(base_url="http://{}:{}".format(*address)) as client:
        wait_until(lambda: client.get("/").status_code == 200, "the held connections to end")


def test_grpc_takes_the_same_bounds() -> None:
    """Its options are strings, and an unknown one is no error."""
    short = {"grpc.server_handshake_timeout_ms": 300, "grpc.max_connection_idle_ms": 300}
    assert short.keys() <= CONNECTION_OPTIONS.keys()
    options = CONNECTION_OPTIONS | short | {CONNECTIONS: 2}

    async def close_all() -> list[bytes]:
        server = grpc.aio.server(options=list(options.items()))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        greeted = [await reader.read() for reader, _ in silent]  # to the end
        for _, writer in silent:
            writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))  # and no call
        greeted.append(await reader.read())
        writer.close()
        await server.stop(0)
        return greeted

    *first, idle = asyncio.run(asyncio.wait_for(close_all(), 60))
    assert sorted(map(bool, first)) == [False, True, True], "one of three is refused at once"
    assert idle
