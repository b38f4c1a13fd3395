"""Access control for gRPC: calls without a valid token end before they reach their method."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import grpc

from finetuner.exceptions import FinetunerError
from finetuner.workspace.tokens import Role

from . import roles
from .access import Access, Entry
from .errors import abort
from .metrics import GatewayMetrics


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
    """

    def __init__(self, access: Access, metrics: GatewayMetrics) -> None:
        self._access = access
        self._metrics = metrics

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        """Return the method's own handler, or a handler of the same kind that refuses the call."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        needed = roles.of_method(method)
        if handler is None or needed is None:
            return handler
        try:
            self._check(method, needed, dict(handler_call_details.invocation_metadata or ()))
        except FinetunerError as error:
            if error.status == 401:
                self._metrics.refused("grpc")
            return _refuser(handler, partial(self._access.refusal, error))
        return handler

    def _check(self, method: str, needed: Role, metadata: Mapping[str, str]) -> None:
        header = metadata.get("authorization")
        if method in roles.DATA_METHODS:
            self._access.caller(header)  # `admit` checks and counts each message when it arrives
        else:
            self._access.admit(header, "grpc").require(needed, method)


def _refuser(handler: grpc.RpcMethodHandler, refusal: Callable[[str], FinetunerError]) -> grpc.RpcMethodHandler:
    """Return a handler of the same kind as `handler`. It ends each call with the refusal of its peer."""
    streamed = handler.request_streaming

    async def refuse_one(asked: Any, context: grpc.aio.ServicerContext) -> None:
        await abort(context, refusal(context.peer()), unread=asked if streamed else None)

    async def refuse_stream(asked: Any, context: grpc.aio.ServicerContext) -> object:
        await abort(context, refusal(context.peer()), unread=asked if streamed else None)
        yield  # not reached; makes this a generator, which gRPC expects of a method with a response stream

    if streamed:
        kind = (
            grpc.stream_stream_rpc_method_handler
            if handler.response_streaming
            else grpc.stream_unary_rpc_method_handler
        )
    else:
        kind = (
            grpc.unary_stream_rpc_method_handler if handler.response_streaming else grpc.unary_unary_rpc_method_handler
        )
    return kind(refuse_stream if handler.response_streaming else refuse_one)
