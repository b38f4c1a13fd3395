"""The hub: DocArray's and hubble's own clients, and streams that nobody should send."""

from __future__ import annotations

import gzip
import logging
import os
import pickle
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import docarray.array.mixins.io.pushpull as docarray_hub
import httpx
import pytest
import requests
import uvicorn
from docarray import Document, DocumentArray
from hubble import Client as HubbleClient
from hubble.excepts import AuthenticationRequiredError
from jina.types.request.data import DataRequest

from executors.gateway.access.access import Access
from executors.gateway.access.metrics import GatewayMetrics
from executors.gateway.http_app import build_app
from executors.gateway.hub import form as hub_form
from executors.gateway.hub import links as hub_links
from executors.gateway.hub.links import Download, Links
from finetuner.api import hub
from finetuner.contract import wire
from finetuner.contract.environment import HTTP
from finetuner.contract.wire import mark_error, reply
from finetuner.documents import stream
from finetuner.documents.stream import StreamReader, pack
from finetuner.exceptions import FinetunerError, InvalidDocument, InvalidInput
from finetuner.transport.connection import Connection
from finetuner.workspace.datasets import Datasets
from finetuner.workspace.folder import Workspace
from tests.gateway.conftest import TOKEN, Door
from tests.waiting import wait_until

RPC = "/v2/rpc/"
HEADERS = {"authorization": f"token {TOKEN}"}


@dataclass
class Rooms:
    """A gateway's handler whose only room is a workspace's datasets, without a Flow between."""

    datasets: Datasets
    metrics: GatewayMetrics = field(default_factory=lambda: GatewayMetrics(None))
    logger: logging.Logger = field(default_factory=lambda: logging.getLogger("test"))
    parts: list[int] = field(default_factory=list)
    http: str = ""

    async def process_single_data(self, request: DataRequest, context: Any = None) -> DataRequest:
        answer = DataRequest()
        answer.header.exec_endpoint = request.header.exec_endpoint
        try:
            answer.data.docs = self.answer(request.header.exec_endpoint, request.docs, dict(request.parameters))
        except FinetunerError as error:
            answer.data.docs = DocumentArray([mark_error(Document(), error)])
        return answer

    def answer(self, endpoint: str, docs: DocumentArray, given: dict[str, Any]) -> DocumentArray:
        match endpoint:
            case wire.DATASETS_PUSH if given.get("abort"):
                value: Any = self.datasets.forget(given["upload"])
            case wire.DATASETS_PUSH if "commit" in given:
                version = given.get("version", "")
                value = vars(self.datasets.commit(given["name"], given["upload"], int(given["commit"]), version))
            case wire.DATASETS_PUSH:
                self.parts.append(len(docs))
                value = self.datasets.add_part(given["upload"], int(given["part"]), docs, int(given["first"]))
            case wire.DATASETS_PULL:
                return self.datasets.part(given["version"], int(given["part"]))
            case wire.DATASETS_LIST:
                value = [vars(self.datasets.find(given["name"]))] if "name" in given else None
                value = value or [vars(dataset) for dataset in self.datasets.all()]
            case wire.DATASETS_DELETE:
                value = vars(self.datasets.delete(given["name"]))
            case wire.ARTIFACTS_LIST:
                manifest = {"artifact_id": "a" * 24, "run_name": "run", "backbone": "clip-mini", "metrics": {}}
                value = [manifest | {"created_at": "2025-01-01T00:00:00+00:00"}]
            case _:
                raise InvalidInput(endpoint)
        return DocumentArray([reply(value)])

    @property
    def left(self) -> list[str]:
        """What lies in the workspace of uploads that were not committed, and of datasets."""
        folder = self.datasets._folder
        uploads = folder / "uploads"
        return [*(path.name for path in uploads.glob("*")), *(dataset.name for dataset in self.datasets.all())]


@pytest.fixture
def rooms(tmp_path: Path) -> Iterator[Rooms]:
    """The app behind a real socket, with a token."""
    handler = Rooms(Datasets(Workspace(tmp_path / "workspace")))
    listening = socket.create_server(("127.0.0.1", 0))
    handler.http = f"http://127.0.0.1:{listening.getsockname()[1]}"
    app = build_app(handler, Access(TOKEN))  # type: ignore[arg-type]
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield handler
    server.should_exit = True
    thread.join(60)


@pytest.fixture
def logged_in(rooms: Rooms, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (hub.ADDRESS, hub.TOKEN, hub.HINT, HTTP):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(docarray_hub, "__cache_path__", str(tmp_path / "cache"))
    hub.point_hub(Connection(rooms.http, TOKEN))


def form(content: bytes, **fields: str) -> tuple[bytes, str]:
    """Return a multipart body with the part `file` first, as DocArray sends it."""
    parts = {"file": ("DocumentArray", content), **fields}
    return requests.packages.urllib3.filepost.encode_multipart_formdata(parts)  # type: ignore[attr-defined,no-any-return]


def upload(rooms: Rooms, content: bytes, **fields: str) -> httpx.Response:
    body, kind = form(content, **fields)
    return httpx.post(f"{rooms.http}{RPC}artifact.upload", content=body, headers={**HEADERS, "content-type": kind})


def streamed(documents: DocumentArray) -> bytes:
    return bytes(documents.to_bytes(protocol="protobuf", compress="gzip"))


def texts(count: int = 3) -> DocumentArray:
    return DocumentArray(Document(text=f"text {number}") for number in range(count))


def test_docarray_pushes_pulls_lists_and_deletes_with_a_token(rooms: Rooms, logged_in: None) -> None:
    documents = texts()
    made = documents.push("texts")
    assert len(made["_id"]) == 24
    assert DocumentArray.pull("texts") == documents
    assert DocumentArray.cloud_list() == ["texts"]
    client = HubbleClient(jsonify=True)
    assert [entry["type"] for entry in client.list_artifacts()["data"]] == ["documentArray", "model"]
    assert client.get_artifact_info(id="a" * 24)["data"]["name"] == "run"
    file = BytesIO()
    client.download_artifact(made["_id"], file)
    assert DocumentArray.load_binary(file.getvalue(), protocol="protobuf", compress="gzip") == documents
    client.upload_artifact(BytesIO(streamed(texts(2))), id=made["_id"])
    assert len(DocumentArray.pull("texts")) == 2
    DocumentArray.cloud_delete("texts")
    assert DocumentArray.cloud_list() == []


def test_a_wrong_token_is_what_hubble_calls_not_logged_in(
    rooms: Rooms, logged_in: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = httpx.post(f"{rooms.http}{RPC}user.identity.whoami", headers={"authorization": "token wrong"})
    assert answer.status_code == 401
    assert answer.json()["status"] == 40103
    assert "token" in answer.json()["detail"]
    monkeypatch.setenv(hub.TOKEN, "wrong")
    for call in (lambda: texts().push("texts"), lambda: DocumentArray.pull("texts"), DocumentArray.cloud_list):
        with pytest.raises(AuthenticationRequiredError):
            call()
    for method in ("artifact.upload", "artifact.getDownloadUrl", "artifact.delete", "artifact.list"):
        assert httpx.post(f"{rooms.http}{RPC}{method}").status_code == 401
    assert rooms.left == []


def test_the_grpc_side_says_where_the_http_side_is(
    locked_door: Door, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (hub.ADDRESS, hub.TOKEN, hub.HINT):
        monkeypatch.setenv(name, "")
    monkeypatch.delenv(HTTP, raising=False)
    for connection, http in (
        (Connection(door.grpc), door.http),
        (Connection(locked_door.grpc, TOKEN), locked_door.http),
    ):
        hub.point_hub(connection)
        assert os.environ[hub.ADDRESS] == http
        hub.point_hub(Connection(locked_door.grpc, "wrong"))
        hub.point_hub(Connection("grpc://127.0.0.1:1"))
        assert os.environ[hub.ADDRESS] == http  # as it was: neither says one


def test_parts_are_bounded_whatever_is_sent(rooms: Rooms, logged_in: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_REQUEST_BYTES", 1000)
    documents = DocumentArray(Document(blob=os.urandom(300)) for _ in range(20))
    documents.push("many")
    assert rooms.parts == [2] * 10
    assert DocumentArray.pull("many") == documents


BOMB = gzip.compress(bytes(100 * 2**20))


def framed(*packed: bytes, count: int | None = None) -> bytes:
    header = stream.HEADER.pack(1, len(packed) if count is None else count)
    return header + b"".join(len(each).to_bytes(4, "big") + each for each in packed)


GOOD = gzip.compress(Document(text="good").to_bytes(protocol="protobuf"))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "stream must be whole, with a whole header. Got 0 documents"),
        (b"\x01\0\0", "with a whole header"),
        (framed(), "dataset must hold at least one document. Got none"),
        (b"PK\x03\x04 a zip", "stream must be DocArray's, which starts with byte 1. Got 80"),
        (texts().to_bytes(protocol="pickle-array"), "Got a pickle, which this server never opens"),
        (texts().to_bytes(protocol="pickle", compress="gzip"), "document 0 must be DocArray's protobuf. Got a pickle"),
        (texts().to_bytes(protocol="pickle"), "document 0 must be protobuf in gzip. Got a pickle"),
        (texts().to_bytes(protocol="protobuf"), "document 0 must be protobuf in gzip. Got b'"),
        (framed(GOOD, GOOD[:-9]), "document 1 must be one whole gzip. Got a part or more"),
        (framed(GOOD + GOOD), "document 0 must be one whole gzip"),
        (framed(GOOD, BOMB), "document 1 must be at most 66060288 bytes. Got more when it is unzipped"),
        (framed(GOOD, gzip.compress(b"\xff" * 50)), "document 1 must be DocArray's protobuf. Got other bytes"),
        (framed(GOOD, count=2), "with 2 documents. Got 1 documents"),
        (framed(GOOD, count=2**64 - 1), "Got 1 documents"),
        (framed(GOOD, GOOD, count=1), "stream must end after its 1 documents"),
        (framed(GOOD)[:-1], "with 1 documents. Got 0 documents"),
        (framed(GOOD) + b"\xff\xff\xff\xff", "stream must end after its 1 documents"),
        (
            framed(GOOD, count=2) + b"\xff\xff\xff\xff",
            "document 1 must be at most .* bytes. Got 4294967295 bytes of gzip",
        ),
        (streamed(DocumentArray([Document(text="a"), Document(id="e")])), r"document 1 \(e\): document must have text"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_a_stream_that_is_none_is_refused_and_leaves_nothing(rooms: Rooms, content: bytes, expected: str) -> None:
    answer = upload(rooms, content, name="broken")
    assert answer.status_code == 422
    assert answer.json()["status"] == 42203
    with pytest.raises(AssertionError, match=expected):
        raise AssertionError(answer.json()["readableMessage"])
    assert rooms.left == []


def test_no_pickle_is_opened(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    def loads(*_: object) -> None:
        raise AssertionError("unpickled")

    content = texts().to_bytes(protocol="pickle-array")
    monkeypatch.setattr(pickle, "loads", loads)
    assert upload(rooms, content, name="broken").status_code == 422


@pytest.mark.parametrize("cut", [10, 150, 200, 260, -60, -3])
def test_a_form_that_is_cut_off_leaves_nothing(rooms: Rooms, cut: int) -> None:
    body, kind = form(streamed(texts()), name="cut")
    answer = httpx.post(
        f"{rooms.http}{RPC}artifact.upload", content=body[:cut], headers={**HEADERS, "content-type": kind}
    )
    assert answer.status_code == 422
    assert rooms.left == []


def test_a_caller_that_hangs_up_leaves_nothing(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_REQUEST_BYTES", 10)
    body, kind = form(streamed(texts(50)), name="cut")
    head = f"POST {RPC}artifact.upload HTTP/1.1\r\nhost: x\r\nauthorization: token {TOKEN}\r\ncontent-type: {kind}\r\n"
    with socket.create_connection(("127.0.0.1", int(rooms.http.rpartition(":")[2]))) as plug:
        plug.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body[: len(body) // 2])
        wait_until(lambda: bool(rooms.parts), "parts")
    wait_until(lambda: rooms.left == [], "the end of all uploads")
    assert len(rooms.parts) < 50


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "upload must have a field 'name'"),
        ({"name": "../x"}, "dataset name must be 1 to 128 letters"),
        ({"name": "x", "metaData": "x" * (hub_form.MAX_FIELD_BYTES + 1)}, "field 'metaData' must have at most"),
        ({f"f{number}": "" for number in range(40)}, "at most 32 fields"),
        ({"id": "0" * 24}, "a dataset of this Flow must be named"),
    ],
)
def test_wrong_fields_are_refused_and_leave_nothing(rooms: Rooms, fields: dict[str, str], expected: str) -> None:
    answer = upload(rooms, streamed(texts()), **fields)
    assert answer.status_code in (404, 422)
    assert expected in answer.json()["detail"]
    assert rooms.left == []


@pytest.mark.parametrize("kind", ["", "application/json", "multipart/form-data", "multipart/form-data; boundary=other"])
def test_what_is_no_form_is_refused(rooms: Rooms, kind: str) -> None:
    body, _ = form(streamed(texts()), name="x")
    answer = httpx.post(f"{rooms.http}{RPC}artifact.upload", content=body, headers={**HEADERS, "content-type": kind})
    assert answer.status_code == 422
    assert "multipart" in answer.json()["detail"]


def test_a_large_refused_upload_still_gets_its_answer(rooms: Rooms, logged_in: None) -> None:
    documents = DocumentArray([Document(tags={"no": "content"})])
    documents.extend(Document(blob=os.urandom(2**20)) for _ in range(40))
    with pytest.raises(requests.HTTPError, match="document 0 .* document must have text"):
        documents.push("large")


def test_downloads_need_the_right_signature_and_end(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
    upload(rooms, streamed(texts()), name="texts")
    asked = httpx.get(f"{rooms.http}{RPC}artifact.getDownloadUrl?name=texts", headers=HEADERS).json()["data"]
    url = httpx.URL(asked["download"])
    assert (url.host, f"http://{url.host}:{url.port}") == ("127.0.0.1", rooms.http)
    answer = httpx.get(url)
    assert answer.status_code == 200
    assert int(answer.headers["content-length"]) == len(answer.content)
    forged = [
        url.copy_set_param("signature", "0" * 64),
        url.copy_set_param("signature", "ä"),
        url.copy_remove_param("signature"),
        url.copy_set_param("expires", int(url.params["expires"]) + 60),
        url.copy_set_param("documents", 2),
        url.copy_set_param("size", "x"),
        url.copy_with(path="/v2/download/" + "0" * 64),
        url.copy_with(path="/v2/download/../rpc/artifact.list"),
    ]
    for address in forged:
        assert httpx.get(address).status_code in (401, 403)
    assert httpx.post(url).status_code == 401  # a signature is for reading
    late = SimpleNamespace(time=lambda: time.time() + hub_links.SECONDS + 1)
    monkeypatch.setattr(hub_links, "time", late)
    assert httpx.get(url).status_code == 403
    assert "its time is over" in httpx.get(url).json()["detail"]


def test_a_secret_lives_as_long_as_its_process() -> None:
    url = httpx.URL(Links().address("http://x", Download("a" * 64, 1, 10)))
    assert Links().read("a" * 64, dict(url.params)) is None


def test_a_dataset_that_goes_away_ends_the_download_early(rooms: Rooms) -> None:
    upload(rooms, streamed(texts()), name="texts")
    asked = httpx.get(f"{rooms.http}{RPC}artifact.getDownloadUrl?name=texts", headers=HEADERS).json()["data"]
    rooms.datasets.delete("texts")
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(asked["download"])


@pytest.mark.parametrize(
    ("method", "body", "code"),
    [
        ("artifact.getDownloadUrl", {}, 422),
        ("artifact.getDownloadUrl", {"name": "none"}, 404),
        ("artifact.getDetail", {"id": "0" * 24}, 404),
        ("artifact.delete", {"id": "a" * 24}, 404),
        ("artifact.update", {"id": "x", "public": True}, 422),
        ("artifact.list", {"pageSize": "many"}, 422),
        ("artifact.list", [], 422),
        ("executor.getPackage", {"id": "jina-ai/CLIPTextEncoder"}, 404),
        ("artifact.invented", {}, 404),
    ],
)
def test_wrong_questions_are_answered_in_json(rooms: Rooms, method: str, body: Any, code: int, door: Door) -> None:
    where = f"{rooms.http}{RPC}{method}" if method != "artifact.invented" else f"{door.http}{RPC}{method}"
    answer = httpx.post(where, json=body, headers=HEADERS)
    assert answer.status_code == code
    assert "detail" in answer.json()
    assert httpx.post(where, content=b"{", headers={**HEADERS, "content-type": "application/json"}).status_code >= 400


def test_a_name_is_changed_to_a_new_one_only(rooms: Rooms, logged_in: None) -> None:
    first = texts().push("one")
    texts(2).push("two")
    client = HubbleClient(jsonify=True)
    with pytest.raises(Exception, match="name must be new. Got 'two'"):
        client.update_artifact(first["_id"], name="two")
    assert client.update_artifact(first["_id"], name="three")["data"]["name"] == "three"
    assert [dataset.name for dataset in rooms.datasets.all()] == ["three", "two"]


@pytest.mark.parametrize("length", [0, 1, 65534, 65535, 65536, 200_000])
@pytest.mark.parametrize("zeros", [0, 7])
def test_our_gzip_is_gzip_of_the_size_that_was_said(length: int, zeros: int) -> None:
    content = os.urandom(length)
    packed = pack(content, zeros)
    assert len(packed) == stream.packed_size(length) + zeros
    assert gzip.decompress(packed[4:]) == content


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_a_stream_may_arrive_in_any_pieces(step: int) -> None:
    documents, reader = texts(5), StreamReader()
    content = streamed(documents)
    found = [each for start in range(0, len(content), step) for each in reader.feed(content[start : start + step])]
    assert found == [document.to_bytes(protocol="protobuf") for document in documents]
    assert reader.finish() == 5


def test_a_document_past_the_limit_is_refused_by_its_length_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_MESSAGE_BYTES", 2**20 + 100)
    with pytest.raises(InvalidDocument, match="document 0 must be at most 100 bytes. Got 5000 bytes of gzip"):
        list(StreamReader().feed(stream.HEADER.pack(1, 1) + (5000).to_bytes(4, "big")))
