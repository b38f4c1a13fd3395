"""Access control for gRPC: calls without a valid token end before they reach their method."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import grpc

from finetuner.exceptions import FinetunerError, InvalidInput
from finetuner.workspace.tokens import Role

from . import roles
from .access import CALLER, Access, Entry
from .errors import abort
from .intake import Counted, Intake, counted, read_one
from .metrics import GatewayMetrics
from .peers import peer_of

OPEN_SECONDS = 2.0


def admit(access: Access, context: grpc.aio.ServicerContext, endpoint: str, documents: int) -> Entry:
    """Admit one message of a call.

    A call may stay open for hours. Each of its messages needs a valid token and counts as one request.

    Raises:
        FinetunerError: the message is refused.
    """
    entry = access.admit(dict(context.invocation_metadata() or ()).get("authorization"), "grpc")
    entry.endpoint, entry.documents = endpoint, documents
    try:
        entry.require(roles.of_endpoint(endpoint), endpoint)
    except FinetunerError as error:
        status = error.status
        entry.close(lambda: status)
        raise
    return entry


class GrpcCheck(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc is not typed
    """Interceptor that refuses calls without a valid token (UNAUTHENTICATED) or a sufficient role (PERMISSION_DENIED).

    Args:
        access: the valid tokens.
        metrics: counts refusals.
        intake: hears of calls and messages.
    """

    def __init__(self, access: Access, metrics: GatewayMetrics, intake: Intake) -> None:
        self._access = access
        self._metrics = metrics
        self._intake = intake

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        """Return the method's own handler, or a handler of the same kind that refuses the call."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        needed = roles.of_method(method)
        if handler is None:
            return handler
        if needed is None:
            return _hurried(handler)
        try:
            self._check(method, needed, dict(handler_call_details.invocation_metadata or ()))
        except FinetunerError as error:
            if error.status == 401:
                self._metrics.refused("grpc")
            return _refuser(handler, partial(self._access.refusal, error), self._intake)
        return counted(handler, self._intake) if method in roles.DATA_METHODS else handler

    def _check(self, method: str, needed: Role, metadata: Mapping[str, str]) -> None:
        header = metadata.get("authorization")
        if method in roles.DATA_METHODS:
            # `admit` checks and counts each message when it arrives
            CALLER.set(self._access.caller(header).name)
        else:
            self._access.admit(header, "grpc").require(needed, method)


def _hurried(handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
    """Return a handler whose message must arrive within OPEN_SECONDS: gRPC holds it, and its caller needs no token."""
    if handler.request_streaming:
        return handler

    async def read(requests: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> Any:
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                return await read_one(requests, context)
        except TimeoutError:
            late = InvalidInput(f"A message without a token must arrive within {OPEN_SECONDS:g} s. Got less of it.")
            await abort(context, late)

    async def answer(requests: AsyncIterator[Any], context: grpc.aio.ServicerContext) -> Any:
        return await (handler.unary_stream or handler.unary_unary)(await read(requests, context), context)

    make = grpc.stream_stream_rpc_method_handler if handler.response_streaming else grpc.stream_unary_rpc_method_handler
    return make(answer, handler.request_deserializer, handler.response_serializer)


def _refuser(
    handler: grpc.RpcMethodHandler, refusal: Callable[[str], FinetunerError], intake: Intake
) -> grpc.RpcMethodHandler:
    """Return a handler that ends each call with the refusal of its peer.

    It takes a stream of requests even if `handler` takes one: gRPC would read that one, of up to 64 MiB, before it
    calls the handler. For callers it is the same.
    """

    async def refuse_one(_: Any, context: grpc.aio.ServicerContext) -> None:
        unread = Counted(context, intake, peer_of(context.peer())) if handler.request_streaming else None
        await abort(context, refusal(context.peer()), unread=unread)

    async def refuse_stream(asked: Any, context: grpc.aio.ServicerContext) -> object:
        await refuse_one(asked, context)
        yield  # not reached; makes this a generator, which gRPC expects of a method with a response stream

    if handler.response_streaming:
        return grpc.stream_stream_rpc_method_handler(refuse_stream)
    return grpc.stream_unary_rpc_method_handler(refuse_one)
