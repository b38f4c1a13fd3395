"""Jina's messages: none is read by pickle, whatever door it came by, and none is written only to know its size.

Documents that come as `docs_bytes` would be unpickled, which runs the sender's code.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import grpc
from jina.serve.runtimes.worker.request_handling import WorkerRequestHandler
from jina.types.mixin import ProtoTypeMixin
from jina.types.request.data import DataRequest

from finetuner.contract.wire import ERROR_METADATA
from finetuner.exceptions import InvalidInput


def refuse_pickle(request: DataRequest) -> None:
    """Refuse a request whose documents came as a pickle.

    Raises:
        InvalidInput: it is one.
    """
    if request.proto_with_data.data.WhichOneof("documents") == "docs_bytes":
        raise InvalidInput(
            "Documents must come in the request's field `docs`. Got `docs_bytes`, which holds a pickle. "
            "Send them with jina.Client."
        )


@cache
def guard_room() -> None:
    """Refuse pickles in the room that Jina serves in this process: its port may be open to more than the gateway."""
    answer = WorkerRequestHandler.process_data

    async def checked(handler: WorkerRequestHandler, requests: list[DataRequest], context: Any, **options: Any) -> Any:
        try:
            for request in requests:
                refuse_pickle(request)
        except InvalidInput as error:
            metadata = ((ERROR_METADATA, type(error).__name__),)
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error), metadata)
        return await answer(handler, requests, context, **options)

    WorkerRequestHandler.process_data = checked


def weigh_unwritten() -> None:
    """Let Jina count the bytes of each message, for its metrics, without writing it once more."""
    ProtoTypeMixin.nbytes = property(lambda message: message.proto.ByteSize())
