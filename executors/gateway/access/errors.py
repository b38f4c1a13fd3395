"""Errors as HTTP and gRPC carry them: a status, a sentence, and the exception's class by name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, NoReturn

import grpc

from finetuner.contract.wire import ERROR_METADATA
from finetuner.exceptions import (
    AlreadyExists,
    FinetunerError,
    FinetunerServerError,
    Forbidden,
    InsufficientStorage,
    InvalidInput,
    NotFound,
    ResourceExhausted,
    Unauthorized,
    by_name,
)

from .access import RateLimited

# HTTP status -> gRPC status
CODES = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.ALREADY_EXISTS,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
    507: grpc.StatusCode.RESOURCE_EXHAUSTED,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
# HTTP status -> class, for errors that FastAPI raises without one of ours
CLASSES: dict[int, type[FinetunerError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: AlreadyExists,
    429: ResourceExhausted,
    507: InsufficientStorage,
}
DRAIN_SECONDS, PAUSE_SECONDS = 20.0, 1.0


def status_of(error: FinetunerError) -> int:
    """Return an error's HTTP status."""
    return error.code if isinstance(error, FinetunerServerError) else error.status


def name_of(error: FinetunerError) -> str:
    """Return the name of the error's class in `finetuner.exceptions`, or of its nearest base there."""
    return next(each.__name__ for each in type(error).__mro__ if by_name(each.__name__) is each)


def class_of(status: int) -> type[FinetunerError]:
    """Return the class for an HTTP error that has only a status."""
    return CLASSES.get(status, InvalidInput if status < 500 else FinetunerServerError)


def error_body(error: FinetunerError) -> dict[str, Any]:
    """Return the JSON body of an error: `{"detail": sentence, "type": class, "error": {"message": sentence, ...}}`.

    `error` is the form of OpenAI's API, whose clients show nothing else to their user.
    """
    detail, kind = str(error), name_of(error)
    return {"detail": detail, "type": kind, "error": {"message": detail, "type": kind, "param": None, "code": None}}


async def abort(
    context: grpc.aio.ServicerContext,
    error: FinetunerError,
    code: grpc.StatusCode | None = None,
    unread: AsyncIterator[Any] | None = None,
) -> NoReturn:
    """End a gRPC call with an error. The trailing metadata holds its class, and `retry-after` for a rate limit.

    Args:
        context: of the call.
        error: its message becomes the call's details.
        code: gRPC status; by default the one that matches the error's HTTP status.
        unread: the rest of a stream of requests. It is read first, until it pauses for PAUSE_SECONDS, for DRAIN_SECONDS
            at most: a client whose call ends while it writes reports INTERNAL instead of the error.
    """
    if unread is not None:
        await _drain(unread)
    metadata = [(ERROR_METADATA, name_of(error))]
    if isinstance(error, RateLimited):
        metadata.append(("retry-after", f"{error.wait:.1f}"))
    code = code or CODES.get(status_of(error), grpc.StatusCode.INTERNAL)
    await context.abort(code, str(error), tuple(metadata))
    raise AssertionError("abort raises")


async def _drain(unread: AsyncIterator[Any]) -> None:
    with suppress(Exception):
        async with asyncio.timeout(DRAIN_SECONDS):
            while True:
                await asyncio.wait_for(anext(unread), PAUSE_SECONDS)  # StopAsyncIteration at the end
