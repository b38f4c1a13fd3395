"""What a Flow answers to short questions, which ask its rooms for no work: by gRPC, by HTTP, and in `flow.json`."""

from __future__ import annotations

import http.client
import json
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..contract.environment import HTTP_PORT
from ..exceptions import FlowUnreachable, Forbidden, InvalidInput
from .connection import SCHEMES, Connection

SECONDS = 10.0  # for each answer
ANSWER_BYTES = 2**16


@dataclass(frozen=True)
class Addresses:
    """Where a Flow can be reached; `flow.json` in the workspace while it is up."""

    pid: int
    """The process that started the rooms."""
    grpc: str
    """Such as 'grpc://127.0.0.1:51000', for `login(host=...)` and `jina.Client(host=...)`; with TLS 'grpcs://...'."""
    http: str
    """Such as 'http://127.0.0.1:51001'; with TLS 'https://...'."""
    metrics: dict[str, str]
    """Prometheus URL by room, the gateway's included; those of several replicas as 'room/0', 'room/1'."""


def running(root: Path) -> Addresses | None:
    """Return what `flow.json` of a workspace says, None where it is not there or says nothing."""
    try:
        return Addresses(**json.loads((root / "flow.json").read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def lives(pid: int) -> bool:
    """Return whether a process of this machine, or of this container, is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True


def probe(connection: Connection) -> dict[str, str] | None:
    """Return what the gateway says of itself, which needs no room; None where it asks for another token.

    Raises:
        FlowUnreachable: no answer.
        Forbidden: it has no token, and answers its own machine alone.
    """
    if connection.host.startswith("http"):
        status, content = get(connection.host, "/openapi.json", connection.token)
        if status == 403:
            raise Forbidden(str(content.get("detail")))
        return None if status == 401 else {}
    import grpc

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "pkg_resources is deprecated", UserWarning)  # jina's own import of it
        from jina.proto import jina_pb2, jina_pb2_grpc

    parts = urlsplit(connection.host)
    metadata = (("authorization", f"token {connection.token}"),) if connection.token else ()
    if SCHEMES[parts.scheme]:
        channel = grpc.secure_channel(parts.netloc, grpc.ssl_channel_credentials())
    else:
        channel = grpc.insecure_channel(parts.netloc)
    with channel:
        try:
            empty = jina_pb2.google_dot_protobuf_dot_empty__pb2.Empty()
            info = jina_pb2_grpc.JinaInfoRPCStub(channel)._status(empty, metadata=metadata, timeout=SECONDS)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                return None
            said = " ".join((error.details() or "").rpartition("last error: ")[2].split())[:300]
            raise FlowUnreachable(f"{connection.host} does not answer: {error.code().name}, {said}") from None
    return dict(info.envs)


def http_side(connection: Connection, said: dict[str, str]) -> str:
    """Return the address of the Flow's HTTP side, '' where neither the connection nor what the gateway said has it."""
    parts = urlsplit(connection.host)
    if parts.scheme.startswith("http"):
        return f"{parts.scheme}://{parts.netloc}"
    port = said.get(HTTP_PORT, "")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"http{'s' if SCHEMES[parts.scheme] else ''}://{host}:{port}" if port else ""


def get(address: str, path: str, token: str = "") -> tuple[int, dict[str, Any]]:
    """Return the status and JSON object of an answer, {} where it is none; neither proxy nor redirect is followed.

    Raises:
        FlowUnreachable: no answer.
        InvalidInput: an address that is none.
    """
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidInput(f"the address of the HTTP side must be like http://127.0.0.1:51001. Got {address!r}.")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    headers = {"Authorization": f"token {token}"} if token else {}
    connection = kind(parts.hostname, parts.port, timeout=SECONDS)
    try:
        connection.request("GET", parts.path.rstrip("/") + path, headers=headers)
        answer = connection.getresponse()
        status, body = answer.status, answer.read(ANSWER_BYTES)
    except (OSError, http.client.HTTPException) as error:
        reason = f"nothing came within {SECONDS:g} s" if isinstance(error, TimeoutError) else error
        raise FlowUnreachable(f"{address} does not answer: {reason}") from None
    finally:
        connection.close()
    try:
        content = json.loads(body)
    except ValueError:
        content = {}
    return status, content if isinstance(content, dict) else {}
