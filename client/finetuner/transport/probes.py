"""Probes of a Flow: its status by gRPC and HTTP, and `flow.json` in its workspace. No room does any work."""

from __future__ import annotations

import http.client
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..contract.environment import HTTP_PORT
from ..contract.wire import ERROR_METADATA
from ..exceptions import FlowUnreachable, InvalidInput, by_name
from . import messages, over_grpc, over_http
from .connection import SCHEMES, Connection

SECONDS = 10.0  # for each answer
ANSWER_BYTES = 2**16


FLOW_FILE = "flow.json"


@dataclass(frozen=True)
class Addresses:
    """The addresses of a Flow, stored as `flow.json` in its workspace while it is up."""

    pid: int
    """Process that started the rooms."""
    grpc: str
    """'grpc://HOST:PORT', or 'grpcs://...' with TLS, for `login(host=...)` and `jina.Client(host=...)`."""
    http: str
    """'http://HOST:PORT', or 'https://...' with TLS."""
    metrics: dict[str, str]
    """Prometheus URL by room, the gateway included; those of several replicas as 'room/0', 'room/1'."""


def running(root: Path) -> Addresses | None:
    """Return the addresses in `flow.json` of a workspace, None for a missing or invalid file."""
    try:
        return Addresses(**json.loads((root / FLOW_FILE).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def lives(pid: int) -> bool:
    """Return whether a process of this machine, or of this container, exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it belongs to another user
        pass
    return True


def probe(connection: Connection) -> dict[str, str] | None:
    """Return the environment that the gateway reports by gRPC, {} over HTTP, or None if it needs another token.

    Raises:
        FlowUnreachable: no answer.
        FinetunerError: the gateway refused the request for another reason than its token; the class that it named.
    """
    if connection.host.startswith("http"):
        status, content = get(connection.host, "/openapi.json", connection.token)
        if status == 401:
            return None
        if "type" in content:
            raise by_name(str(content["type"]))(str(content.get("detail")))
        return {}
    import grpc

    try:
        answer = over_grpc.call(connection.host, connection.token, messages.STATUS, b"", SECONDS)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNAUTHENTICATED:
            return None
        reason = " ".join((error.details() or "").rpartition("last error: ")[2].split())[:300]
        if name := dict(error.trailing_metadata() or ()).get(ERROR_METADATA):
            raise by_name(name)(reason) from None
        raise FlowUnreachable(f"{connection.host} does not answer: {error.code().name}, {reason}") from None
    return messages.read_environment(answer)


def http_side(connection: Connection, reported: dict[str, str]) -> str:
    """Return the address of the Flow's HTTP side, '' if not known.

    Args:
        connection: to the Flow.
        reported: from `probe`; holds the HTTP port.
    """
    parts = urlsplit(connection.host)
    if parts.scheme.startswith("http"):
        return f"{parts.scheme}://{parts.netloc}"
    port = reported.get(HTTP_PORT, "")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    return f"http{'s' if SCHEMES[parts.scheme] else ''}://{host}:{port}" if port else ""


def get(address: str, path: str, token: str = "") -> tuple[int, dict[str, Any]]:
    """Return the status and the JSON object of an answer, {} for other content. Uses no proxy, follows no redirect.

    Raises:
        FlowUnreachable: no answer.
        InvalidInput: an invalid address.
    """
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidInput(f"the address of the HTTP side must be like http://127.0.0.1:51001. Got {address!r}.")
    try:
        status, body = over_http.exchange(address, "GET", path, token, seconds=SECONDS, most=ANSWER_BYTES)
    except (OSError, http.client.HTTPException) as error:
        reason = f"nothing came within {SECONDS:g} s" if isinstance(error, TimeoutError) else error
        raise FlowUnreachable(f"{address} does not answer: {reason}") from None
    try:
        content = json.loads(body)
    except ValueError:
        content = {}
    return status, content if isinstance(content, dict) else {}
