"""Datasets through the gateway, a part at a time: in from DocArray's stream, out as one."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from docarray.proto.docarray_pb2 import DocumentProto
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from finetuner.contract import wire
from finetuner.documents import stream
from finetuner.exceptions import FinetunerError, FinetunerServerError, InvalidDocument, InvalidInput

from ..flow.rooms import Rooms
from .form import Multipart

DRAIN_BYTES, DRAIN_SECONDS = 256 * 2**20, 20.0


async def take(rooms: Rooms, content_type: str, body: AsyncIterator[bytes]) -> tuple[dict[str, str], str, int]:
    """Pass an upload's documents on to the trainer as they arrive; it is not committed yet.

    Args:
        rooms: of the Flow.
        content_type: of the request.
        body: of the request.

    Returns:
        The form's other fields, the upload's id, and the number of documents.

    Raises:
        FinetunerError: a broken form, stream or document; what has been passed on is forgotten then.
    """
    upload = uuid.uuid4().hex
    try:
        form, reader = Multipart(content_type), stream.StreamReader()
        batch: list[Any] = []
        size = part = first = 0
        async for piece in form.file_of(body):
            for message, length in await asyncio.to_thread(_messages, reader, piece):
                if batch and size + length > wire.MAX_REQUEST_BYTES:
                    await rooms.call(wire.DATASETS_PUSH, batch, upload=upload, part=part, first=first)
                    part, first, batch, size = part + 1, first + len(batch), [], 0
                batch.append(message)
                size += length
        count = reader.finish()
        await rooms.call(wire.DATASETS_PUSH, batch, upload=upload, part=part, first=first)
        return form.fields, upload, count
    except BaseException as error:  # also a caller that hangs up, which ends this task
        await asyncio.shield(forget(rooms, upload))
        if isinstance(error, FinetunerError):
            await drain(body)
        raise


async def forget(rooms: Rooms, upload: str) -> None:
    """Remove what has arrived of an upload; where the trainer does not answer, it does so itself after days."""
    with suppress(Exception):
        await rooms.call(wire.DATASETS_PUSH, upload=upload, abort=True)


def _messages(reader: stream.StreamReader, piece: bytes) -> list[tuple[Any, int]]:
    found = []
    for content in reader.feed(piece):
        try:
            found.append((DocumentProto.FromString(content), len(content)))
        except DecodeError:
            kind = "a pickle, which this server never opens" if content[:1] == b"\x80" else "other bytes"
            raise InvalidDocument(
                f"document {reader.read - 1} must be DocArray's protobuf. Got {kind}. Use DocumentArray.push."
            ) from None
    return found


async def drain(body: AsyncIterator[bytes]) -> None:
    """Read what the caller still sends, within bounds: one that is cut off while it writes never reads the answer."""
    left = DRAIN_BYTES
    with suppress(Exception):
        async with asyncio.timeout(DRAIN_SECONDS):
            async for chunk in body:
                left -= len(chunk)
                if left < 0:
                    return


async def give(rooms: Rooms, version: str, documents: int) -> AsyncIterator[bytes]:
    """Yield a dataset as DocArray's stream.

    Args:
        rooms: of the Flow.
        version: the content's hash.
        documents: how many it has.

    Raises:
        FinetunerServerError: the trainer has other documents; the caller sees a download that ends early.
    """
    yield stream.HEADER.pack(stream.VERSION, documents)
    given = part = 0
    while given < documents:
        messages = await rooms.post(wire.DATASETS_PULL, version=version, part=part)
        if not messages or _failed(messages[0]):
            raise FinetunerServerError(f"dataset {version} ends after {given} of {documents} documents")
        zeros = stream.padding(version) if not given else 0
        yield await asyncio.to_thread(_packed, messages, zeros)
        given, part = given + len(messages), part + 1


def _packed(messages: list[Any], zeros: int) -> bytes:
    packed = [stream.pack(messages[0].SerializePartialToString(), zeros)]
    packed += [stream.pack(message.SerializePartialToString()) for message in messages[1:]]
    return b"".join(packed)


def _failed(message: Any) -> bool:
    return wire.ERROR_TAG in message.tags.fields


def name_of(fields: dict[str, str]) -> str:
    """Return the name in an upload's fields.

    Raises:
        InvalidInput: there is none.
    """
    if not fields.get("name"):
        raise InvalidInput("upload must have a field 'name'. Got none. Use DocumentArray.push(name).")
    return fields["name"]
