"""Counts the parts of a message in its bytes, before protobuf reads it.

Two bytes are an empty document, which protobuf, DocArray and the rooms turn into kilobytes and a quarter of a
millisecond. So a message is bounded by its parts as well as by its bytes, and nothing is read past the bound.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

from finetuner.contract.wire import MAX_MESSAGE_DOCUMENTS, MAX_MESSAGE_PARTS, MAX_PARAMETER_PARTS
from finetuner.exceptions import InvalidInput


class OutOfBounds(InvalidInput):
    """A message with more parts than one may have."""


class Kind(IntEnum):
    """The messages whose fields are counted."""

    REQUEST, HEADER, ROUTE, STATUS, DATA, DOCUMENTS, DOCUMENT = range(7)
    ARRAY, DENSE, SPARSE, STRUCT, ENTRY, VALUE, LIST = range(7, 14)
    FLAT, NUMBERS = 14, 15  # without a message inside; a packed list of numbers


# Kind -> number of a field -> kind of its message; of other fields, only the number counts.
FIELDS: dict[Kind, dict[int, Kind]] = {
    Kind.REQUEST: {1: Kind.HEADER, 2: Kind.STRUCT, 3: Kind.ROUTE, 4: Kind.DATA},
    Kind.HEADER: {2: Kind.STATUS},
    Kind.ROUTE: {4: Kind.STATUS},
    Kind.STATUS: {3: Kind.FLAT},
    Kind.DATA: {1: Kind.DOCUMENTS},
    Kind.DOCUMENTS: {1: Kind.DOCUMENT},
    Kind.DOCUMENT: {
        **dict.fromkeys((3, 16), Kind.ARRAY),  # tensor, embedding
        13: Kind.NUMBERS,  # location
        **dict.fromkeys((14, 15), Kind.DOCUMENT),  # chunks, matches
        **dict.fromkeys((17, 20), Kind.STRUCT),  # tags, metadata
        **dict.fromkeys((18, 19), Kind.FLAT),  # scores, evaluations
    },
    Kind.ARRAY: {1: Kind.DENSE, 2: Kind.SPARSE, 4: Kind.STRUCT},
    Kind.DENSE: {2: Kind.NUMBERS},
    Kind.SPARSE: {1: Kind.DENSE, 2: Kind.DENSE, 3: Kind.NUMBERS},
    Kind.STRUCT: {1: Kind.ENTRY},
    Kind.ENTRY: {2: Kind.VALUE},
    Kind.VALUE: {5: Kind.STRUCT, 6: Kind.LIST},
    Kind.LIST: {1: Kind.VALUE},
    Kind.FLAT: {},
}


def check_bounds(content: bytes, kind: Kind = Kind.REQUEST) -> None:
    """Check the number of documents and parts in a serialized message.

    Bytes that are no protobuf pass: protobuf refuses them.

    Args:
        content: the message.
        kind: REQUEST for a DataRequestProto, DOCUMENT for a DocumentProto.

    Raises:
        OutOfBounds: more than MAX_MESSAGE_DOCUMENTS documents, MAX_MESSAGE_PARTS parts, or MAX_PARAMETER_PARTS parts
            of its parameters.
    """
    if len(content) > 2 * MAX_MESSAGE_DOCUMENTS:  # shorter ones have room for no more
        _count(content, kind, 0, len(content), MAX_MESSAGE_PARTS)


def _count(content: bytes, kind: Kind, at: int, end: int, most: int) -> None:
    documents = parts = 0
    waiting = [(kind, at, end)]
    while waiting:
        kind, at, end = waiting.pop()
        inner = FIELDS[kind]
        while at < end:
            parts += 1
            try:
                key = content[at]
                at += 1
                if key > 0x7F:
                    key, at = _varint(content, at - 1)
                match key & 7:
                    case 2:
                        length = content[at]
                        at += 1
                        if length > 0x7F:
                            length, at = _varint(content, at - 1)
                    case 0:
                        length, at = 0, _varint(content, at)[1]
                    case 1:
                        length = 8
                    case 5:
                        length = 4
                    case _:
                        raise OutOfBounds(
                            "A request must be protobuf without groups. Got one. Send it with docarray 0.21."
                        )
            except IndexError:
                break
            found = inner.get(key >> 3) if key & 7 == 2 else None
            if found is None or not length:
                documents += found is Kind.DOCUMENT
            elif kind is Kind.REQUEST and found is Kind.STRUCT:
                _count(content, found, at, min(at + length, end), MAX_PARAMETER_PARTS)
            elif found is Kind.NUMBERS:
                parts += length  # a dimension below 128 takes one byte
            else:
                documents += found is Kind.DOCUMENT
                waiting.append((found, at, min(at + length, end)))
            at += length
            if documents > MAX_MESSAGE_DOCUMENTS:
                raise too_many_documents()
            if parts > most:
                raise too_many_parts(most)


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """Return a number of up to 10 bytes, and the position after it."""
    value = shift = 0
    while True:
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80 or shift > 63:
            return value, at
        shift += 7


def check_request(request: Any) -> None:
    """Check the bounds of a Jina request that has arrived and is not read yet.

    Raises:
        OutOfBounds: see `check_bounds`.
    """
    if request.buffer:
        check_bounds(request.buffer)


def too_many_documents() -> OutOfBounds:
    """Return the error for more than MAX_MESSAGE_DOCUMENTS documents."""
    return OutOfBounds(
        f"A request may hold {MAX_MESSAGE_DOCUMENTS} documents, with their chunks and matches. Got more. "
        "Send fewer per request."
    )


def too_many_parts(most: int) -> OutOfBounds:
    """Return the error for more than MAX_MESSAGE_PARTS or MAX_PARAMETER_PARTS parts."""
    where = "documents and tags" if most == MAX_MESSAGE_PARTS else "parameters"
    return OutOfBounds(f"A request may hold {most} fields and values in its {where}. Got more. Send less per request.")
