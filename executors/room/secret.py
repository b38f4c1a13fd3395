"""Lets a room answer only the gateway of its Flow, once the Flow has tokens.

A room's port is on loopback or in the Flow's own network, where other users and containers reach it without a token.
The gateway sends the secret in `rooms.token`, which only the Flow's own user can read.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc

from finetuner.contract.environment import TOKEN
from finetuner.contract.wire import ERROR_METADATA
from finetuner.exceptions import Unauthorized
from finetuner.executors.room.jina_internals import add_interceptor
from finetuner.workspace.folder import ID_FILE, file_version
from finetuner.workspace.tokens import ROOMS_FILE, TokenFile

METADATA = "finetuner-rooms"  # of a gRPC call
OPEN_METHODS = {
    *("/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch", "/grpc.health.v1.Health/List"),
    *("/jina.JinaDiscoverEndpointsRPC/endpoint_discovery", "/jina.JinaInfoRPC/_status"),
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
}
"""Methods for health checks, and for Jina's search for the others. They carry nothing out."""


class RoomsSecret:
    """The secret that a room asks for. It is read again when its file or the tokens change.

    Without tokens the Flow is open, and the room asks for nothing. A Flow with a database server has its tokens there,
    where not every room looks, so its rooms always ask. Without `rooms.token` a room asks for nothing: then no gateway
    of ours serves this workspace.

    Args:
        root: the workspace's folder.
    """

    def __init__(self, root: Path) -> None:
        self._tokens = TokenFile(root)
        self._file, self._claim = root / ROOMS_FILE, root / ID_FILE
        self._version: Any = None
        self._secret: bytes | None = None

    def require(self, given: str | bytes | None) -> None:
        """Check the value of METADATA.

        Raises:
            Unauthorized: it is not the secret.
        """
        version = (file_version(self._file), self._tokens.version(), file_version(self._claim))
        if version != self._version:
            asks = os.environ.get(TOKEN) or version[2] is not None or self._tokens.in_use
            locked = version[0] is not None and asks
            self._secret = self._file.read_bytes() if locked else None
            self._version = version
        if self._secret is None:
            return
        value = given.encode() if isinstance(given, str) else given or b""
        if not self._secret or not hmac.compare_digest(value, self._secret):  # an empty file is damaged
            raise Unauthorized(
                f"A room's caller must be the gateway of its Flow, which sends the secret in {ROOMS_FILE}. "
                "Got another or none. Send the request to the gateway."
            )


def require_secret(root: Path) -> None:
    """Refuse calls without the secret in the room that Jina serves in this process, before they reach their method."""
    add_interceptor(SecretCheck(RoomsSecret(root)))


class SecretCheck(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc is not typed
    """Interceptor that refuses calls without the secret (UNAUTHENTICATED).

    Args:
        secret: that calls must send.
    """

    def __init__(self, secret: RoomsSecret) -> None:
        self._secret = secret

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        """Return the method's own handler, or one that refuses the call."""
        if handler_call_details.method not in OPEN_METHODS:
            try:
                self._secret.require(dict(handler_call_details.invocation_metadata or ()).get(METADATA))
            except Unauthorized as error:
                return _refuser(error)
        return await continuation(handler_call_details)


def _refuser(error: Unauthorized) -> grpc.RpcMethodHandler:
    async def refuse(_: bytes, context: grpc.aio.ServicerContext) -> None:
        metadata = ((ERROR_METADATA, type(error).__name__),)
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error), metadata)

    return grpc.unary_unary_rpc_method_handler(refuse)
