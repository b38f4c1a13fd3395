"""Datasets through the gateway in bounded parts: from DocArray's stream into the trainer, and back."""

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
from finetuner.documents.iterate import with_parts
from finetuner.exceptions import FinetunerError, FinetunerServerError, InvalidDocument, InvalidInput
from finetuner.executors.room.bounds import Kind, OutOfBounds, check_bounds

from ..artifacts.multipart import Multipart
from ..flow.body import drain
from ..flow.fields import check_fields
from ..flow.rooms import Rooms


async def store_parts(rooms: Rooms, content_type: str, body: AsyncIterator[bytes]) -> tuple[dict[str, str], str, int]:
    """Send the documents of an upload to the trainer as they arrive. The caller commits the upload afterwards.

    Args:
        rooms: the Flow's rooms.
        content_type: of the request.
        body: of the request.

    Returns:
        The other fields of the form, the id of the upload, and the number of documents.

    Raises:
        FinetunerError: an invalid form, stream or document. The trainer drops the upload.
    """
    upload = uuid.uuid4().hex
    try:
        form, reader = Multipart(content_type, "Use DocumentArray.push."), stream.StreamReader()
        batch: list[Any] = []
        size = parts = part = first = 0
        async for piece in form.file_of(body):
            for message, length, count in await asyncio.to_thread(_messages, reader, piece):
                full = size + length > wire.MAX_REQUEST_BYTES or parts + count > wire.MAX_REQUEST_DOCUMENTS
                if batch and full:
                    await rooms.call(wire.DATASETS_PUSH, batch, upload=upload, part=part, first=first)
                    part, first, batch, size, parts = part + 1, first + len(batch), [], 0, 0
                batch.append(message)
                size, parts = size + length, parts + count
        total = reader.finish()
        await rooms.call(wire.DATASETS_PUSH, batch, upload=upload, part=part, first=first)
        return form.fields, upload, total
    except BaseException as error:  # including the cancellation of this task when the caller hangs up
        await asyncio.shield(abort_upload(rooms, upload))
        if isinstance(error, FinetunerError):
            await drain(body)
        raise


async def abort_upload(rooms: Rooms, upload: str) -> None:
    """Drop an unfinished upload. If the trainer does not answer, it drops the upload after days by itself."""
    with suppress(Exception):
        await rooms.call(wire.DATASETS_PUSH, upload=upload, abort=True)


def _messages(reader: stream.StreamReader, piece: bytes) -> list[tuple[Any, int, int]]:
    """Return the documents that a piece completes, each with its bytes, and its number with chunks and matches."""
    found = []
    for content in reader.feed(piece):
        try:
            check_bounds(content, Kind.DOCUMENT)
            message = DocumentProto.FromString(content)
            check_fields([message], reader.read - 1)
            found.append((message, len(content), sum(1 for _ in with_parts(message))))
        except DecodeError:
            kind = "a pickle, which this server never opens" if content[:1] == b"\x80" else "other bytes"
            raise InvalidDocument(
                f"document {reader.read - 1} must be DocArray's protobuf. Got {kind}. Use DocumentArray.push."
            ) from None
        except OutOfBounds as error:
            raise InvalidDocument(f"document {reader.read - 1}: {error}") from None
    return found


async def dataset_stream(rooms: Rooms, version: str, documents: int) -> AsyncIterator[bytes]:
    """Yield a dataset as DocArray's stream.

    Args:
        rooms: the Flow's rooms.
        version: hash of the content.
        documents: number of documents.

    Raises:
        FinetunerServerError: the trainer returns fewer documents; the caller's download ends early.
    """
    yield stream.HEADER.pack(stream.VERSION, documents)
    sent = part = 0
    while sent < documents:
        messages = await rooms.post(wire.DATASETS_PULL, version=version, part=part)
        if not messages or _failed(messages[0]):
            raise FinetunerServerError(f"dataset {version} must have {documents} documents. Got {sent}")
        zeros = stream.padding(version) if not sent else 0
        yield await asyncio.to_thread(_packed, messages, zeros)
        sent, part = sent + len(messages), part + 1


def _packed(messages: list[Any], zeros: int) -> bytes:
    packed = [stream.pack(messages[0].SerializePartialToString(), zeros)]
    packed += [stream.pack(message.SerializePartialToString()) for message in messages[1:]]
    return b"".join(packed)


def _failed(message: Any) -> bool:
    return wire.ERROR_TAG in message.tags.fields


def name_of(fields: dict[str, str]) -> str:
    """Return the dataset's name from the fields of an upload.

    Raises:
        InvalidInput: no name.
    """
    if not fields.get("name"):
        raise InvalidInput("upload must have a field 'name'. Got none. Use DocumentArray.push(name).")
    return fields["name"]
