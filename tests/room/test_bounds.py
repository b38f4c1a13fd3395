"""The number of documents and parts in a message, counted before protobuf reads it."""

from __future__ import annotations

from contextlib import suppress

import pytest
from docarray import Document, DocumentArray
from jina.types.request.data import DataRequest

from finetuner.contract.wire import MAX_MESSAGE_DOCUMENTS, MAX_MESSAGE_PARTS, MAX_PARAMETER_PARTS
from finetuner.exceptions import InvalidInput
from finetuner.executors.room.bounds import Kind, check_bounds

from .version_2 import written

EMPTY = written(1, b"")
DOCUMENTS, PARTS, PARAMETERS = MAX_MESSAGE_DOCUMENTS, MAX_MESSAGE_PARTS, MAX_PARAMETER_PARTS


def message(documents: bytes = b"", parameters: bytes = b"") -> bytes:
    return written(2, parameters) + written(4, written(1, documents))


def document(*fields: bytes) -> bytes:
    return written(1, b"".join(fields))


def values(count: int) -> bytes:
    """Return a Struct with a list of nulls."""
    return written(1, written(1, b"a") + written(2, written(6, EMPTY * count)))


def nested(count: int) -> bytes:
    """Return a document with chunks, whose chunks have chunks, ..."""
    inner = b""
    for _ in range(50):
        inner = (written(14, b"") * (count // 50 - 1)) + written(14, inner)
    return document(inner)


def test_real_messages_pass() -> None:
    request = DataRequest()
    request.header.exec_endpoint = "/index"
    tags = {f"tag{number}": [number, "a", {"b": None}] for number in range(10)}
    chunks = [Document(text="a dress", tags=tags), Document(blob=bytes(2**20), weight=0.5)]
    request.data.docs = DocumentArray(
        Document(uri="a.jpg", embedding=[0.5] * 512, location=[1.0], tags=tags, chunks=chunks) for _ in range(20)
    )
    request.parameters = {"filter": {"id": {"$in": [str(number) for number in range(10_000)]}}}
    check_bounds(request.proto.SerializeToString())


@pytest.mark.parametrize(
    ("content", "most"),
    [
        (message(EMPTY * (DOCUMENTS + 1)), DOCUMENTS),
        (message(document(written(14, b"") * DOCUMENTS)), DOCUMENTS),
        (message(document(written(15, b"") * DOCUMENTS)), DOCUMENTS),
        (message(EMPTY * (DOCUMENTS // 2)) + message(EMPTY * (DOCUMENTS // 2 + 1)), DOCUMENTS),
        (message(nested(2 * DOCUMENTS)), DOCUMENTS),
        (message(document(written(17, values(PARTS)))), PARTS),
        (message(document(written(20, values(PARTS)))), PARTS),
        (message(document(written(18, b"") * PARTS)), PARTS),
        (message(document(written(16, written(1, written(2, b"\1" * PARTS))))), PARTS),
        (message(document(written(3, written(1, b"\x10\1" * PARTS)))), PARTS),
        (message(document(written(13, bytes(4 * PARTS)))), PARTS),
        (message(document(written(4, b"a") * PARTS)), PARTS),
        (written(3, b"") * (PARTS + 1), PARTS),
        (written(1, written(2, written(3, written(2, b"") * PARTS))), PARTS),
        (written(99, b"") * (PARTS + 1), PARTS),
        (b"\x8a\x00\x00" * (PARTS + 1), PARTS),
        (message(parameters=values(PARAMETERS)), PARAMETERS),
    ],
    ids=[
        *("documents", "chunks", "matches", "in two fields", "nested", "tags", "metadata", "scores", "shape"),
        *("shape, one by one", "location", "one field again", "routes", "status", "unknown fields", "long keys"),
        "parameters",
    ],
)
def test_too_many_are_refused(content: bytes, most: int) -> None:
    with pytest.raises(InvalidInput, match=f"A request may hold {most} .* Got more. Send"):
        check_bounds(content + written(1, b" " * 2**14))


@pytest.mark.parametrize(
    "content",
    [message(EMPTY * DOCUMENTS), message(document(written(17, values(PARTS // 2))), values(PARAMETERS // 2))],
    ids=["documents", "values"],
)
def test_as_many_as_allowed_pass(content: bytes) -> None:
    check_bounds(content + written(1, b" " * 2**14))


def test_a_group_cannot_hide_documents() -> None:
    with pytest.raises(InvalidInput, match="without groups"):
        check_bounds(written(4, b"\x9b\x01\x9c\x01" + written(1, EMPTY * 10 * DOCUMENTS)))


@pytest.mark.parametrize(
    "content",
    [b"\xff" * 2**15, b"\x0a" * 2**15, message(EMPTY * 9000)[:100] * 200, b"\x0a\xff" * 2**14],
    ids=["ones", "tags", "cut", "lengths"],
)
def test_bytes_that_are_no_message_are_left_to_protobuf(content: bytes) -> None:
    with suppress(InvalidInput):  # they may look like a group
        check_bounds(content)


def test_one_document_of_a_stream() -> None:
    with pytest.raises(InvalidInput, match=f"may hold {DOCUMENTS} documents"):
        check_bounds(written(14, b"") * (DOCUMENTS + 1), Kind.DOCUMENT)
