"""Refuses Jina's messages without DocArray v1 documents, and counts the bytes of a message without serializing it.

Jina unpickles documents that arrive as `docs_bytes`, which runs the sender's code. It reads a document of DocArray v2
as an empty one of v1: both number their fields from 1.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from functools import cache
from typing import Any, TypeVar

import grpc
from google.protobuf.any_pb2 import Any as Entry  # type: ignore[import-untyped]
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from jina.types.request.data import DataRequest

from finetuner.contract.wire import ERROR_METADATA
from finetuner.exceptions import InvalidInput
from finetuner.executors.room.jina_internals import (
    ProcessData,
    answers_beside,
    keep_environment,
    replace_nbytes,
    wrap_process_data,
)

Result = TypeVar("Result")
VERSION = "Send them with docarray 0.21, or as JSON over HTTP."


def require_documents(request: DataRequest) -> None:
    """Refuse a request whose documents are not those of DocArray v1.

    Raises:
        InvalidInput: a message that cannot be read, a pickle in `docs_bytes`, or documents of DocArray v2.
    """
    try:
        data = request.proto_with_data.data
    except DecodeError as error:  # also a vector of DocArray v2
        raise InvalidInput(
            "Documents must be those of DocArray v1. Got a message that is none, such as a vector of "
            f"DocArray v2: {error}. {VERSION}"
        ) from None
    if data.WhichOneof("documents") == "docs_bytes":
        raise InvalidInput(
            "Documents must come in the request's field `docs`. Got `docs_bytes`, which holds a pickle. "
            "Send them with jina.Client."
        )
    if any(document.id.startswith("\n") and _of_version_2(document) for document in data.docs.docs):
        raise InvalidInput(f"Documents must be those of DocArray v1. Got those of DocArray v2. {VERSION}")


def _of_version_2(document: Any) -> bool:
    """Return whether a message was a map of fields. As v1, it has an id alone: one of the map's entries.

    `Entry` has the fields of an entry: a name and bytes.
    """
    try:
        entry = Entry.FromString(document.id.encode())
    except DecodeError:
        return False
    return bool(entry.type_url) and len(document.ListFields()) == 1


@cache
def guard_room() -> None:
    """Refuse messages without DocArray v1 documents in the room that Jina serves in this process.

    The gateway refuses them as well, but the room's port may be open to others. Requests whose callers have left do not
    get their turn.
    """
    wrap_process_data(_checked)


def _checked(answer: ProcessData) -> ProcessData:
    turn = asyncio.Lock()

    async def checked(handler: Any, requests: list[DataRequest], context: Any, **options: Any) -> DataRequest:
        try:
            for request in requests:
                require_documents(request)
        except InvalidInput as error:
            metadata = ((ERROR_METADATA, type(error).__name__),)
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error), metadata)
        if answers_beside(handler, requests[0].header.exec_endpoint):
            return await answer(handler, requests, context, **options)
        async with turn:
            return await _finished(answer(handler, requests, context, **options))

    return checked


async def _finished(work: Awaitable[Result]) -> Result:
    """Return the result of work in a thread. If its caller leaves, wait for its end: a thread cannot be stopped.

    Jina would start the next request beside it.
    """
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


@cache
def count_without_serializing() -> None:
    """Let Jina's metrics read the size of a message without serializing the message again, and keep none elsewhere."""
    replace_nbytes(lambda message: int(message.proto.ByteSize()))
    keep_environment()
