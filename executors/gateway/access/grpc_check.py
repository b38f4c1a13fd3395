"""gRPC's side of the door: calls without a token end before their method is reached."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import NoReturn

import grpc

from finetuner.exceptions import FinetunerError
from finetuner.workspace.tokens import Role

from . import roles
from .access import Access, Entry, TooFast
from .metrics import GatewayMetrics

CODES = {
    422: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
}


async def refuse(context: grpc.aio.ServicerContext, error: FinetunerError) -> NoReturn:
    """End a call with what stands against it."""
    after = (("retry-after", f"{error.wait:.1f}"),) if isinstance(error, TooFast) else ()
    await context.abort(CODES[error.status], str(error), after)
    raise AssertionError("abort raises")


def enter(access: Access, context: grpc.aio.ServicerContext, endpoint: str, documents: int) -> Entry:
    """Let one message of a call in.

    A call may live for hours, so each message is asked for its token, and counts as a request.

    Raises:
        FinetunerError: what stands against it.
    """
    entry = access.enter(dict(context.invocation_metadata() or ()).get("authorization"), "grpc")
    entry.endpoint, entry.documents = endpoint, documents
    try:
        entry.require(roles.of_endpoint(endpoint), endpoint)
    except FinetunerError as error:
        status = error.status
        entry.close(lambda: status)
        raise
    return entry


class GrpcCheck(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc is not typed
    """Refuse calls without a token as UNAUTHENTICATED, and those beyond its role as PERMISSION_DENIED.

    Args:
        access: who may enter.
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
        """Return the method's own handler, or one that refuses and is of the same kind."""
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
            return _refuser(handler, error)
        return handler

    def _check(self, method: str, needed: Role, metadata: Mapping[str, str]) -> None:
        header = metadata.get("authorization")
        if method in roles.DATA_METHODS:
            self._access.caller(header)  # what counts is the message, which is not here yet
        else:
            self._access.enter(header, "grpc").require(needed, method)


def _refuser(handler: grpc.RpcMethodHandler, error: FinetunerError) -> grpc.RpcMethodHandler:
    async def refuse_one(_: object, context: grpc.aio.ServicerContext) -> None:
        await refuse(context, error)

    async def refuse_stream(_: object, context: grpc.aio.ServicerContext) -> object:
        await refuse(context, error)
        yield  # never reached; makes this a generator, as gRPC expects of a method that streams its answer

    if handler.request_streaming:
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
