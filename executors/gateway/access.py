"""Who may enter: one token for gRPC and HTTP; without one the door is open."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable

import grpc
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from finetuner.exceptions import InvalidInput

from .hub_links import DOWNLOADS
from .measures import Measures

# What a probe needs before it knows a token: gRPC's health service, Jina's dry run, and the health pages.
OPEN_SERVICES = ("/grpc.health.v1.Health/", "/jina.JinaGatewayDryRunRPC/")
OPEN_PAGES = frozenset({"/", "/healthz", "/dry_run"})
HUB = "/v2/rpc/"
NOT_LOGGED_IN = 40103  # what hub clients look for in the body of a refusal


class Token:
    """What callers must show, in `authorization: token <t>` (or `Bearer <t>`).

    Args:
        secret: visible ASCII characters; None lets everybody in.

    Raises:
        InvalidInput: a secret that a header cannot carry, or that YAML has turned into a number.
    """

    def __init__(self, secret: str | None) -> None:
        if secret is not None and not (
            isinstance(secret, str) and secret and all("!" <= letter <= "~" for letter in secret)
        ):
            raise InvalidInput(
                "The gateway's token must be one or more visible ASCII characters without spaces. "
                f"Got {type(secret).__name__} of another kind. Choose another token; set it by the environment "
                "variable FINETUNER_TOKEN, since Jina turns digits in YAML into numbers."
            )
        self._secret = None if secret is None else secret.encode()

    def refusal(self, header: str | bytes | None) -> str | None:
        """Return why the `authorization` header does not let its caller in, None where it does."""
        if self._secret is None:
            return None
        if header is None:
            return "This Flow asks for a token. Got none. Send the header `authorization: token <your token>`."
        given = header if isinstance(header, bytes) else header.encode()
        scheme, _, secret = given.strip().partition(b" ")
        if scheme.lower() not in (b"token", b"bearer"):
            return "The header must read `authorization: token <your token>`. Got another form."
        # compare_digest takes the same time wherever the first difference is, so that nobody can guess by letters
        if not hmac.compare_digest(secret.strip(), self._secret):
            return "The token is not the one that this Flow was started with. Ask its owner for it."
        return None


class GrpcCheck(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc is not typed
    """Refuse gRPC calls without the token as UNAUTHENTICATED."""

    def __init__(self, token: Token, measures: Measures) -> None:
        self._token = token
        self._measures = measures

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        """Return the method's own handler, or one that refuses and is of the same kind."""
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method.startswith(OPEN_SERVICES):
            return handler
        given = dict(handler_call_details.invocation_metadata or ())
        reason = self._token.refusal(given.get("authorization"))
        if reason is None:
            return handler
        self._measures.refused("grpc")
        return _refuser(handler, reason)


def _refuser(handler: grpc.RpcMethodHandler, reason: str) -> grpc.RpcMethodHandler:
    async def refuse(_: object, context: grpc.aio.ServicerContext) -> None:
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, reason)

    async def refuse_stream(_: object, context: grpc.aio.ServicerContext) -> object:
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, reason)
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
    return kind(refuse_stream if handler.response_streaming else refuse)


class HttpCheck:
    """Refuse HTTP requests without the token as 401, before their body is read. ASGI middleware."""

    def __init__(self, app: ASGIApp, token: Token, measures: Measures) -> None:
        self._app = app
        self._token = token
        self._measures = measures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with 401."""
        path = scope.get("path", "")
        # an address below DOWNLOADS is signed: that is its permission
        open_page = path in OPEN_PAGES or path.startswith(DOWNLOADS)
        if scope["type"] != "http" or (scope["method"] in ("GET", "HEAD") and open_page):
            await self._app(scope, receive, send)
            return
        reason = self._token.refusal(dict(scope["headers"]).get(b"authorization"))
        if reason is None:
            await self._app(scope, receive, send)
            return
        self._measures.refused("http")
        content: dict[str, object] = {"detail": reason}
        if path.startswith(HUB):
            content |= {"code": 401, "status": NOT_LOGGED_IN, "message": reason, "readableMessage": reason}
        answer = JSONResponse(content, 401, headers={"WWW-Authenticate": "Bearer"})
        await answer(scope, receive, send)
