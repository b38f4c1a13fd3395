"""The gateway: gRPC and HTTP on two ports of one process, with the same rooms behind both."""

from __future__ import annotations

import os
from typing import Any

import grpc
from fastapi import FastAPI
from jina.enums import ProtocolType
from jina.serve.runtimes.gateway.gateway import BaseGateway
from jina.serve.runtimes.servers.composite import CompositeBaseServer
from jina.serve.runtimes.servers.grpc import GRPCServer
from jina.serve.runtimes.servers.http import FastAPIBaseServer

from executors.collector import freeze_modules
from executors.lifeline import end_with_parent
from finetuner.wire import MAX_MESSAGE_BYTES

from .access import GrpcCheck, Token
from .handler import Handler
from .health import TIMEOUT
from .http_app import build_app

# Jina's default is no limit.
MESSAGE_LIMITS = {
    "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
    "grpc.max_send_message_length": MAX_MESSAGE_BYTES,
}


class FinetunerGateway(CompositeBaseServer, BaseGateway):  # type: ignore[misc]  # jina is not typed
    """One door for every room.

    Args:
        token: what callers must send as `authorization: token <t>`; by default $FINETUNER_TOKEN, and where
            that is not set either, everybody may enter.
        health_timeout: seconds that an encoder has to answer `GET /healthz`.
    """

    def __init__(self, token: str | None = None, health_timeout: float = TIMEOUT, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        end_with_parent()
        freeze_modules()
        checked = Token(token if token is not None else os.environ.get("FINETUNER_TOKEN") or None)
        self.servers = [
            GrpcSide(checked, **server)
            if server["runtime_args"]["protocol"] == ProtocolType.GRPC
            else HttpSide(checked, health_timeout, **server)
            for server in self._server_kwargs
        ]

    def _get_request_handler(self) -> Handler:
        self.req_handler_cls = Handler  # Jina passes its own, without our bounds
        handler: Handler = super()._get_request_handler()
        return handler


class GrpcSide(GRPCServer):  # type: ignore[misc]  # jina is not typed
    """Jina's gRPC server behind the token, with bounded messages."""

    def __init__(self, token: Token, *, req_handler: Handler, **kwargs: Any) -> None:
        # Jina's constructor asks for the interceptors, so the check must be there before
        self._check = GrpcCheck(token, req_handler.measures)
        options = {**(kwargs.pop("grpc_server_options", None) or {}), **MESSAGE_LIMITS}
        super().__init__(req_handler=req_handler, grpc_server_options=options, **kwargs)

    def aio_tracing_server_interceptors(self) -> list[grpc.aio.ServerInterceptor]:
        """Return Jina's interceptors, if any, behind ours."""
        return [self._check, *(super().aio_tracing_server_interceptors() or [])]


class HttpSide(FastAPIBaseServer):  # type: ignore[misc]  # jina is not typed
    """The FastAPI app in Jina's uvicorn."""

    def __init__(self, token: Token, health_timeout: float, **kwargs: Any) -> None:
        self._token = token
        self._health_timeout = health_timeout
        super().__init__(**kwargs)

    @property
    def app(self) -> FastAPI:
        """The app; Jina asks once."""
        return build_app(self._request_handler, self._token, self._health_timeout)
