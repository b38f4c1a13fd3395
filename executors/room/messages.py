"""Refuses pickles in Jina's messages, and counts the bytes of a message without serializing it.

Jina unpickles documents that arrive as `docs_bytes`, which runs the sender's code.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import grpc
from jina.types.request.data import DataRequest

from executors.room.jina_internals import ProcessData, replace_nbytes, wrap_process_data
from finetuner.contract.wire import ERROR_METADATA
from finetuner.exceptions import InvalidInput


def refuse_pickle(request: DataRequest) -> None:
    """Refuse a request whose documents are a pickle.

    Raises:
        InvalidInput: the documents are in `docs_bytes`.
    """
    if request.proto_with_data.data.WhichOneof("documents") == "docs_bytes":
        raise InvalidInput(
            "Documents must come in the request's field `docs`. Got `docs_bytes`, which holds a pickle. "
            "Send them with jina.Client."
        )


@cache
def guard_room() -> None:
    """Refuse pickles in the room that Jina serves in this process.

    The gateway refuses them as well, but the room's port may be open to others.
    """
    wrap_process_data(_checked)


def _checked(answer: ProcessData) -> ProcessData:
    async def checked(handler: Any, requests: list[DataRequest], context: Any, **options: Any) -> DataRequest:
        try:
            for request in requests:
                refuse_pickle(request)
        except InvalidInput as error:
            metadata = ((ERROR_METADATA, type(error).__name__),)
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error), metadata)
        return await answer(handler, requests, context, **options)

    return checked


@cache
def count_without_serializing() -> None:
    """Let Jina's metrics read the size of a message without serializing the message again."""
    replace_nbytes(lambda message: int(message.proto.ByteSize()))
