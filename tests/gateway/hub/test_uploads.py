"""Uploads to the hub that are not a valid dataset: all are refused, and leave nothing in the workspace."""

from __future__ import annotations

import gzip
import os
import pickle
import socket

import pytest
import requests
from docarray import Document, DocumentArray

from finetuner.contract import wire
from finetuner.documents import stream
from finetuner.executors.gateway.artifacts import multipart
from tests import plain_http
from tests.gateway.conftest import TOKEN
from tests.gateway.hub.conftest import HEADERS, RPC, Rooms, form, streamed, texts
from tests.waiting import wait_until

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
        (framed(GOOD, gzip.compress(b"\x72\x00" * 10_000)), "document 1: A request may hold 4096 documents"),
        (streamed(DocumentArray([Document(text="a"), Document(id="e")])), r"document 1 \(e\): document must have text"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_an_invalid_stream_is_refused_and_leaves_nothing(rooms: Rooms, content: bytes, expected: str) -> None:
    answer = rooms.upload(content, name="broken")
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
    assert rooms.upload(content, name="broken").status_code == 422


@pytest.mark.parametrize("cut", [10, 150, 200, 260, -60, -3])
def test_a_form_that_is_cut_off_leaves_nothing(rooms: Rooms, cut: int) -> None:
    body, kind = form(streamed(texts()), name="cut")
    answer = plain_http.post(
        f"{rooms.http}{RPC}artifact.upload", content=body[:cut], headers={**HEADERS, "content-type": kind}
    )
    assert answer.status_code == 422
    assert rooms.left == []


def test_an_interrupted_upload_leaves_nothing(rooms: Rooms, monkeypatch: pytest.MonkeyPatch) -> None:
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
        ({"name": "x", "metaData": "x" * (multipart.MAX_FIELD_BYTES + 1)}, "field 'metaData' must have at most"),
        ({f"f{number}": "" for number in range(40)}, "at most 32 fields"),
        ({"id": "0" * 24}, "must be of a dataset of this Flow"),
    ],
)
def test_wrong_fields_are_refused_and_leave_nothing(rooms: Rooms, fields: dict[str, str], expected: str) -> None:
    answer = rooms.upload(streamed(texts()), **fields)
    assert answer.status_code in (404, 422)
    assert expected in answer.json()["detail"]
    assert rooms.left == []


@pytest.mark.parametrize("kind", ["", "application/json", "multipart/form-data", "multipart/form-data; boundary=other"])
def test_a_body_that_is_no_form_is_refused(rooms: Rooms, kind: str) -> None:
    body, _ = form(streamed(texts()), name="x")
    answer = plain_http.post(
        f"{rooms.http}{RPC}artifact.upload", content=body, headers={**HEADERS, "content-type": kind}
    )
    assert answer.status_code == 422
    assert "multipart" in answer.json()["detail"]


@pytest.mark.seconds
def test_a_large_refused_upload_still_gets_its_answer(rooms: Rooms, logged_in: None) -> None:
    documents = DocumentArray([Document(tags={"no": "content"})])
    documents.extend(Document(blob=os.urandom(2**20)) for _ in range(40))
    with pytest.raises(requests.HTTPError, match="document 0 .* document must have text"):
        documents.push("large")
