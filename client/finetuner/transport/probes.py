"""Probes of a Flow: its status by gRPC and HTTP, and `flow.json` in its workspace. No room does any work."""

from __future__ import annotations

import http.client
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..contract import environment, wire
from ..exceptions import FinetunerError, FlowUnreachable, InvalidInput, by_name
from ..version import __version__
from . import messages, over_grpc, over_http
from .channels import load_grpc
from .connection import SCHEMES, Connection
from .errors import of_stranger, unreached

SECONDS = 10.0  # for each answer
ANSWER_BYTES = 2**21


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
    """Return what the gateway reports: its HTTP port, contract and version. None if it needs another token.

    Raises:
        FlowUnreachable: no answer, or that of another service.
        FinetunerError: the gateway refused the request for another reason than its token; the class that it named.
    """
    if connection.host.startswith("http"):
        status, content = get(connection.host, "/openapi.json", connection.token)
        if status == 401:
            return None
        if "type" in content:
            raise by_name(str(content["type"]))(str(content.get("detail")))
        return _described(content)
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    grpc, _ = load_grpc()
    try:
        return messages.read_environment(
            over_grpc.call(connection.host, connection.token, messages.STATUS, b"", SECONDS)
        )
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.UNAUTHENTICATED:
            return None
        reason = " ".join((error.details() or "").split())
        if name := dict(error.trailing_metadata() or ()).get(wire.ERROR_METADATA):
            raise by_name(name)(reason) from None
        if error.code() is grpc.StatusCode.UNIMPLEMENTED:
            raise of_stranger(connection.host, f"another gRPC service: {reason}") from None
        raise unreached(reason or error.code().name, connection.host) from None
    except DecodeError:
        raise of_stranger(connection.host, "another gRPC service") from None


def _described(openapi: dict[str, Any]) -> dict[str, str]:
    """Return the same from the gateway's /openapi.json, {} for another service's."""
    info = openapi.get("info")
    if not isinstance(info, dict) or info.get("title") != wire.TITLE:
        return {}
    found = {environment.VERSION: str(info.get("version")), environment.HTTP_PORT: ""}
    return found | ({environment.CONTRACT: str(info[wire.CONTRACT_FIELD])} if wire.CONTRACT_FIELD in info else {})


def check_contract(host: str, reported: dict[str, str]) -> None:
    """Check that the Flow is one of ours, and that this client and the Flow have the same wire contract.

    Args:
        host: address of the Flow.
        reported: from `probe`.

    Raises:
        FlowUnreachable: another service.
        FinetunerError: another version.
    """
    found = reported.get(environment.CONTRACT)
    if found == str(wire.CONTRACT):
        return
    if found is None and environment.HTTP_PORT not in reported:
        raise of_stranger(host, "another service")
    version = reported.get(environment.VERSION, "")
    newer = found is not None and found.isdecimal() and int(found) > wire.CONTRACT
    raise FinetunerError(
        f"the client and the Flow at {host} must have wire contract {wire.CONTRACT}, of open-finetuner {__version__}. "
        f"Got {found or 'none'}, of open-finetuner {version or 'before contracts had numbers'}. "
        + ("Upgrade the client: pip install --upgrade open-finetuner." if newer else "Upgrade the Flow.")
    )


def http_side(connection: Connection, reported: dict[str, str]) -> str:
    """Return the address of the Flow's HTTP side, '' if not known.

    Args:
        connection: to the Flow.
        reported: from `probe`; holds the HTTP port.
    """
    parts = urlsplit(connection.host)
    if parts.scheme.startswith("http"):
        return f"{parts.scheme}://{parts.netloc}"
    port = reported.get(environment.HTTP_PORT, "")
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
        reason = error if isinstance(error, OSError) else "it does not speak HTTP"
        if isinstance(error, TimeoutError):
            reason = f"nothing came within {SECONDS:g} s"
        raise FlowUnreachable(f"{address} does not answer: {reason}") from None
    try:
        content = json.loads(body)
    except ValueError:
        content = {}
    return status, content if isinstance(content, dict) else {}
