"""One request to a Flow over HTTP. It uses no proxy and follows no redirect."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from ..contract import wire
from .errors import of_http, of_room, of_socket, of_stranger

if TYPE_CHECKING:
    from docarray import DocumentArray

PATH = "/post"  # takes every endpoint


class HttpAnswer(NamedTuple):
    """The documents of an answer, as JSON."""

    data: list[dict[str, Any]]

    def replies(self) -> list[wire.Reply]:
        """Return text and tags of each document, without DocArray."""
        return [wire.Reply(document.get("text") or "", document.get("tags") or {}) for document in self.data]

    def documents(self) -> DocumentArray:
        """Return the documents."""
        from docarray import DocumentArray

        return DocumentArray.from_dict(self.data)


def ask(host: str, token: str, endpoint: str, docs: bytes, parameters: dict[str, Any]) -> HttpAnswer:
    """Send one request and return its answer; the arguments are those of `over_grpc.ask`.

    Raises:
        FinetunerError: see `Connection.post`.
    """
    content = {"exec_endpoint": endpoint, "parameters": parameters, "data": _as_json(docs)}
    try:
        status, body = exchange(host, "POST", PATH, token, json.dumps(content).encode())
    except (OSError, http.client.HTTPException) as error:
        raise of_socket(error, endpoint, host) from error
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict) or (status == 200 and "data" not in answer):
        raise of_stranger(host, f"status {status} and {body.decode('utf-8', 'replace')[:200]!r}")
    if status != 200:
        raise of_http(status, answer, endpoint, host)
    failed = answer.get("header", {}).get("status", {})
    if failed.get("code"):
        raise of_room(str(failed.get("description")), endpoint, host)
    return HttpAnswer(answer.get("data") or [])


def _as_json(docs: bytes) -> list[dict[str, Any]]:
    if not docs:
        return []
    from docarray import DocumentArray
    from docarray.proto.docarray_pb2 import DocumentArrayProto

    documents: list[dict[str, Any]] = DocumentArray.from_protobuf(DocumentArrayProto.FromString(docs)).to_dict()
    return documents


def exchange(
    address: str,
    method: str,
    path: str,
    token: str = "",
    body: bytes | None = None,
    seconds: float = wire.ANSWER_SECONDS,
    most: int | None = None,
) -> tuple[int, bytes]:
    """Return the status and the content of an answer.

    Args:
        address: 'http://HOST:PORT' or 'https://HOST:PORT'; a path in it comes before `path`.
        method: such as 'GET'.
        path: of the request.
        token: '' for none.
        body: JSON, None for none.
        seconds: limit for each byte of the answer.
        most: bytes to read, None for all.

    Raises:
        OSError, http.client.HTTPException: no answer.
    """
    parts = urlsplit(address)
    assert parts.hostname
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    headers = {"Authorization": f"token {token}"} if token else {}
    if body is not None:
        headers["Content-Type"] = "application/json"
    connection = kind(parts.hostname, parts.port, timeout=seconds)
    try:
        connection.request(method, parts.path.rstrip("/") + path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read(most)
    finally:
        connection.close()
