"""A stand-in for a Qdrant server: Qdrant's published REST interface before qdrant-client's local mode.

Every request and every answer is checked against the interface as the project publishes it, in
`qdrant_openapi_1.19.json.gz` (Apache-2.0, github.com/qdrant/qdrant, docs/redoc/master/openapi.json, commit 74f3e85b94).
It shows that the adapter speaks the interface: paths, parameters, bodies, keys and errors. It does not show what a
server does with its graphs, shards, replicas and disks.
"""

from __future__ import annotations

import gzip
import json
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import jsonschema_rs
from pydantic import BaseModel
from qdrant_client import QdrantClient, models

from finetuner.executors.indexer.engines.edge import EdgeEngine
from finetuner.executors.indexer.engines.engine import Engine
from finetuner.executors.indexer.engines.server import ServerEngine

INTERFACE = Path(__file__).with_name("qdrant_openapi_1.19.json.gz")
COLLECTION = "/collections/{collection_name}"
JSON = "application/json"


@cache
def interface() -> dict[str, Any]:
    """Return the interface with nulls as JSON Schema has them, and without fields that it does not name."""
    read: dict[str, Any] = json.loads(gzip.decompress(INTERFACE.read_bytes()))
    _adapt(read)
    return read


def _adapt(schema: Any) -> None:
    if isinstance(schema, list):
        for each in schema:
            _adapt(each)
    if not isinstance(schema, dict):
        return
    if schema.pop("nullable", False):
        schema["type"] = [schema["type"], "null"] if "type" in schema else "null"
    if "properties" in schema and "allOf" not in schema:
        schema.setdefault("additionalProperties", False)
    for each in schema.values():
        _adapt(each)


@dataclass
class StandIn:
    """A running stand-in."""

    url: str = ""
    key: str = ""
    """Key that requests must have; '' for none."""
    down: bool = False
    """Answers 503, as a server that starts."""
    asked: list[tuple[str, Any]] = field(default_factory=list)
    """Operations and bodies, in order."""
    faults: list[str] = field(default_factory=list)
    """What the interface does not allow."""
    nodes: int = 3
    """Nodes of the cluster that it stands in for."""
    client: QdrantClient = field(default_factory=lambda: QdrantClient(":memory:"))

    def collections(self) -> list[str]:
        """Return the names of the collections."""
        return [each.name for each in self.client.get_collections().collections]


class _Server:
    """Answers requests. The local mode is not made for threads, so there is one at a time."""

    def __init__(self, state: StandIn) -> None:
        self.state = state
        self._lock = threading.Lock()
        self._client = state.client
        self._created: dict[str, models.CreateCollection] = {}
        self._paths = interface()
        schemas = {"components": {"schemas": self._paths["components"]["schemas"]}}
        self._of = cache(lambda text: jsonschema_rs.validator_for({**json.loads(text), **schemas}))
        self._routes = [
            (verb, re.compile("^" + re.sub(r"\{\w+\}", "([^/]+)", path) + "$"), path, operation)
            for path, item in self._paths["paths"].items()
            for verb, operation in item.items()
        ]

    def answer(self, verb: str, address: str, headers: Mapping[str, str], body: bytes) -> tuple[int, Any]:
        """Return the status and the JSON of an answer."""
        with self._lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the local mode leaves to a server
            if self.state.key and headers.get("api-key") != self.state.key:
                return 401, _failed("Must provide an API key or an Authorization bearer token")
            if self.state.down:
                return 503, _failed("Service is starting")
            parts = urlsplit(address)
            for method, pattern, path, operation in self._routes:
                if method == verb.lower() and (found := pattern.match(parts.path)):
                    return self._checked(path, operation, found.groups(), dict(parse_qsl(parts.query)), body)
            self.state.faults.append(f"{verb} {address}: no such operation")
            return 404, _failed("no such operation")

    def _checked(
        self, path: str, operation: Any, names: tuple[str, ...], query: Mapping[str, str], body: bytes
    ) -> tuple[int, Any]:
        asked = json.loads(body) if body else None
        self.state.asked.append((operation["operationId"], asked))
        known = {each["name"]: each["schema"] for each in operation.get("parameters", ()) if each["in"] == "query"}
        for name, value in query.items():
            if name not in known or not self._of(json.dumps(known[name])).is_valid(_plain(value)):
                self.state.faults.append(f"{path}: parameter {name}={value}")
        if "requestBody" in operation:
            self._check(f"{path}, request", operation["requestBody"]["content"][JSON]["schema"], asked)
        try:
            result = self._do[operation["operationId"]](self, names, asked)
        except (ValueError, KeyError) as error:  # what the local mode says of unknown collections and wrong sizes
            return (404 if "not found" in str(error) else 400), _failed(str(error))
        answer = {"time": 0.0, "status": "ok", "result": _dumped(result)}
        self._check(f"{path}, answer", operation["responses"]["200"]["content"][JSON]["schema"], answer)
        return 200, answer

    def _check(self, where: str, schema: Any, value: Any) -> None:
        for error in self._of(json.dumps(schema)).iter_errors(value):
            self.state.faults.append(f"{where}: {error.message:.300}")

    def _create(self, names: tuple[str, ...], asked: Any) -> bool:
        given = models.CreateCollection(**asked)
        if (given.replication_factor or 1) > self.state.nodes:
            raise ValueError(f"replication_factor {given.replication_factor} of {self.state.nodes} nodes")
        self._created[names[0]] = given
        return self._client.create_collection(names[0], vectors_config=given.vectors)

    def _get(self, names: tuple[str, ...], _: Any) -> models.CollectionInfo:
        info, given = self._client.get_collection(names[0]), self._created[names[0]]
        info.indexed_vectors_count = 0
        for name in ("shard_number", "replication_factor", "write_consistency_factor"):
            setattr(info.config.params, name, getattr(given, name))
        return info

    def _drop(self, names: tuple[str, ...], _: Any) -> bool:
        return self._client.delete_collection(names[0])

    def _exists(self, names: tuple[str, ...], _: Any) -> Any:
        return {"exists": self._client.collection_exists(names[0])}

    def _upsert(self, names: tuple[str, ...], asked: Any) -> Any:
        return self._client.upsert(names[0], models.PointsList(**asked).points, wait=True)

    def _delete(self, names: tuple[str, ...], asked: Any) -> Any:
        return self._client.delete(names[0], models.PointIdsList(**asked))

    def _retrieve(self, names: tuple[str, ...], asked: Any) -> Any:
        given = models.PointRequest(**asked)
        found = self._client.retrieve(names[0], given.ids, given.with_payload or False, given.with_vector or False)
        return found

    def _query(self, names: tuple[str, ...], asked: Any) -> Any:
        return self._client.query_batch_points(names[0], models.QueryRequestBatch(**asked).searches)

    def _scroll(self, names: tuple[str, ...], asked: Any) -> Any:
        given = models.ScrollRequest(**asked)
        points, following = self._client.scroll(
            names[0], given.filter, given.limit or 10, offset=given.offset,
            with_payload=given.with_payload or False, with_vectors=given.with_vector or False,
        )  # fmt: skip
        return {"points": points, "next_page_offset": following}

    def _count(self, names: tuple[str, ...], asked: Any) -> Any:
        given = models.CountRequest(**asked)
        return self._client.count(names[0], given.filter, given.exact is not False)

    def _facet(self, names: tuple[str, ...], asked: Any) -> Any:
        given = models.FacetRequest(**asked)
        return self._client.facet(names[0], given.key, given.filter, given.limit or 10, given.exact or False)

    def _index(self, names: tuple[str, ...], asked: Any) -> Any:
        given = models.CreateFieldIndex(**asked)
        return self._client.create_payload_index(names[0], given.field_name, given.field_schema)

    _do: Mapping[str, Callable[[_Server, tuple[str, ...], Any], Any]] = {
        "create_collection": _create,
        "get_collection": _get,
        "delete_collection": _drop,
        "collection_exists": _exists,
        "upsert_points": _upsert,
        "delete_points": _delete,
        "get_points": _retrieve,
        "query_batch_points": _query,
        "scroll_points": _scroll,
        "count_points": _count,
        "facet": _facet,
        "create_field_index": _index,
    }


def _failed(sentence: str) -> dict[str, Any]:
    return {"time": 0.0, "status": {"error": sentence}, "result": None}


def _dumped(result: Any) -> Any:
    if isinstance(result, BaseModel):
        return json.loads(result.json(exclude_none=True))
    if isinstance(result, list):
        return [_dumped(each) for each in result]
    if isinstance(result, dict):
        return {name: _dumped(each) for name, each in result.items()}
    return result


def _plain(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


@contextmanager
def qdrant_stand_in() -> Iterator[StandIn]:
    """Run a stand-in on a port that is free."""
    state = StandIn()
    server = _Server(state)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            status, content = server.answer(self.command, self.path, self.headers, body)
            text = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("content-type", JSON)
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_PUT = do_POST = do_DELETE = do_PATCH = _answer  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        state.url = f"http://127.0.0.1:{http.server_port}"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield state
        finally:
            http.shutdown()
            thread.join()


@contextmanager
def published_interface() -> Iterator[Engine]:
    """Give the adapter before a stand-in, and refuse what the interface does not allow."""
    with qdrant_stand_in() as server:
        yield ServerEngine(server.url)
        assert server.faults == []


@contextmanager
def embedded() -> Iterator[Engine]:
    """Give the embedded engine."""
    yield EdgeEngine()
