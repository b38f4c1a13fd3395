"""Bad requests that could fill the log: each kind over HTTP, gRPC and bare sockets, with a read token or none."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from itertools import count

import grpc
import httpx

from .frames import CALL, PREFACE, SINGLE, frame, head_of, literal, message, part
from .siege import Siege

TIMES = 200
_numbers = count()

# method, path, whether a read token comes along, headers, body
HTTP: dict[str, tuple[str, str, bool, dict[str, str], bytes]] = {
    "no token": ("POST", "/encode", False, {}, b"{}"),
    "a wrong token": ("POST", "/encode", False, {"authorization": "token guess-NUMBER"}, b"{}"),
    "a role too small": ("POST", "/fit", True, {}, b"{}"),
    "no route": ("GET", "/nowhere/NUMBER", True, {}, b""),
    "no endpoint": ("POST", "/nowhere/NUMBER", True, {}, b"{}"),
    "another method": ("PATCH", "/encode", True, {}, b"{}"),
    "no JSON": ("POST", "/encode", True, {}, b"\xff\x00NUMBER"),
    "no documents": ("POST", "/v1/encode", True, {}, b'{"documents": 5}'),
    "a bad image": ("POST", "/encode", True, {}, b'{"data":[{"blob":"aGVsbG8="}]}'),
    "a cut image": ("POST", "/encode", True, {}, b'{"data":[{"blob":"/9j/4AAQSkZJRgABAQ=="}]}'),
    "a private URI": ("POST", "/encode", True, {}, b'{"data":[{"uri":"http://10.0.0.1/NUMBER"}]}'),
    "no model": ("POST", "/encode/nowhere-NUMBER", True, {}, b'{"data":[{"text":"a"}]}'),
    "a bad tensor": ("POST", "/encode", True, {}, b'{"data":[{"tensor":[1,2]}]}'),
    "a bad filter": ("POST", "/search", True, {}, b'{"data":[{"text":"a"}],"parameters":{"filter":{"$x":NUMBER}}}'),
    "a bad embedding": ("POST", "/search", True, {}, b'{"data":[{"embedding":[1,2,NUMBER]}]}'),
    "a bad parameter": ("POST", "/search", True, {}, b'{"data":[{"text":"a"}],"parameters":{"limit":"NUMBER"}}'),
    "no run": ("GET", "/v1/experiments/none/runs/NUMBER", True, {}, b""),
    "no artifact": ("GET", "/v1/artifacts/NUMBER/zip", True, {}, b""),
    "no dataset": ("GET", "/v1/datasets/NUMBER/documents", True, {}, b""),
    "a forged download": ("GET", "/v2/download/NUMBER?documents=1&size=1&expires=1&signature=x", False, {}, b""),
    "both lengths": ("POST", "/encode", True, {"transfer-encoding": "chunked"}, b"0\r\n\r\n"),
    "another page": ("GET", "/ui/../../NUMBER", False, {}, b""),
}


def _request(siege: Siege, client: httpx.Client, kind: tuple[str, str, bool, dict[str, str], bytes]) -> None:
    method, path, known, headers, body = kind
    number = str(next(_numbers))
    headers = {
        **(siege.headers if known else {}),
        **{name: text.replace("NUMBER", number) for name, text in headers.items()},
    }
    with suppress(httpx.HTTPError):
        client.request(
            method, path.replace("NUMBER", number), headers=headers, content=body.replace(b"NUMBER", number.encode())
        )


POST = b"POST /encode HTTP/1.1\r\nHost: x\r\nAuthorization: token TOKEN\r\n"
UPGRADE = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: "
RAW = {
    "no HTTP": ("http", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 40),
    "a bad head": ("http", b"GET /\r\n nonsense \r\n\r\n"),
    "a bad length": ("http", b"POST /encode HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n"),
    "a long head": ("http", b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n"),
    "a bad chunk": ("http", POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
    "half a body": ("http", POST + b"Content-Length: 90\r\n\r\n{"),
    "an upgrade": ("http", UPGRADE + b"h2c\r\n\r\n"),
    "a WebSocket": ("http", UPGRADE + b"websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhl\r\n\r\n"),
    "no HTTP/2": ("grpc", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    "TLS": ("grpc", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 40),
    "a bad frame": ("grpc", PREFACE + frame(6, 0, 3, b"x")),
    "a bad header": ("grpc", PREFACE + frame(1, 4, 1, b"\xff" * 40)),
    "no gRPC": ("grpc", PREFACE + frame(1, 5, 1, literal(b":method", b"GET") + literal(b":path", b"/"))),
    "a long header": ("grpc", PREFACE + frame(1, 4, 1, head_of(CALL) + literal(b"x", b"y" * 100) * 150)),
}


def _connect(siege: Siege, side: str, content: bytes) -> None:
    address = siege.http_address if side == "http" else siege.grpc_address
    with suppress(OSError), socket.create_connection(address, timeout=5) as connection:
        connection.sendall(content.replace(b"TOKEN", siege.token.encode()))
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass


GRPC: dict[str, tuple[str, bool, bytes]] = {
    "no token": (SINGLE, False, b""),
    "no token, streamed": (CALL, False, b""),
    "no method": ("/nowhere/nothing", True, b""),
    "no message": (SINGLE, True, b"\xff" * 50),
    "no message, streamed": (CALL, True, b"\xff" * 50),
    "a document of v2": (SINGLE, True, part(0x0A, part(0x1A, b"/encode")) + part(0x22, part(0x12, b"\x80\x04N."))),
    "no endpoint": (SINGLE, True, part(0x0A, part(0x1A, b"/nowhere")) + part(0x22, part(0x0A, b"\x0a\x00"))),
    "a bad image": (SINGLE, True, message(part(0x0A, part(0x22, b"hello")))),
    "a lying tensor": (SINGLE, True, message(part(0x0A, part(0x2A, part(0x0A, part(0x12, b"\x08\x08")))))),
    "reflection": ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", True, b"\xff" * 9),
    "health": ("/grpc.health.v1.Health/Check", False, b"\x0a\x03abc"),
    "dry run": ("/jina.JinaGatewayDryRunRPC/dry_run", False, b"\xff"),
}


def _call(channel: grpc.Channel, siege: Siege, kind: tuple[str, bool, bytes]) -> None:
    method, known, content = kind
    metadata = (("authorization", f"token {siege.token}"),) if known else ()
    with suppress(grpc.RpcError):
        if method == CALL:
            list(channel.stream_stream(method)(iter([content]), metadata=metadata, timeout=20))
        else:
            channel.unary_unary(method)(content, metadata=metadata, timeout=20)


def kinds(siege: Siege) -> dict[str, Callable[[int], None]]:
    """Return by name what sends a number of bad requests."""

    def http(kind: tuple[str, str, bool, dict[str, str], bytes], times: int) -> None:
        with httpx.Client(base_url=siege.flow.http, timeout=60) as client:
            for _ in range(times):
                _request(siege, client, kind)

    def raw(side: str, content: bytes, times: int) -> None:
        for _ in range(times):
            _connect(siege, side, content)

    def call(kind: tuple[str, bool, bytes], times: int) -> None:
        with grpc.insecure_channel(siege.flow.host.removeprefix("grpc://")) as channel:
            for _ in range(times):
                _call(channel, siege, kind)

    found: dict[str, Callable[[int], None]] = {f"HTTP, {name}": partial(http, kind) for name, kind in HTTP.items()}
    found |= {f"socket, {name}": partial(raw, *kind) for name, kind in RAW.items()}
    found |= {f"gRPC, {name}": partial(call, kind) for name, kind in GRPC.items()}
    return found


def written(siege: Siege) -> int:
    """Return the bytes of all files of the workspace, the Flow's log among them."""
    total = 0
    for path in siege.flow.workspace.rglob("*"):
        with suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def attacks() -> dict[str, Callable[[Siege], None]]:
    """Return every kind by name; each sends TIMES requests."""

    def send(name: str, siege: Siege) -> None:
        kinds(siege)[name](TIMES)

    names = [f"{side}, {name}" for side, group in (("HTTP", HTTP), ("socket", RAW), ("gRPC", GRPC)) for name in group]
    return {f"log: {name}": partial(send, name) for name in names}
