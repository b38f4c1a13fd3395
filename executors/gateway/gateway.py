"""The gateway: gRPC and HTTP on two ports of one process, in front of the same rooms."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import grpc
from fastapi import FastAPI
from jina.enums import ProtocolType
from jina.serve.runtimes.gateway.gateway import BaseGateway
from jina.serve.runtimes.servers.composite import CompositeBaseServer
from jina.serve.runtimes.servers.grpc import GRPCServer
from jina.serve.runtimes.servers.http import FastAPIBaseServer

from finetuner.contract.environment import TOKEN
from finetuner.contract.wire import MAX_MESSAGE_BYTES
from finetuner.executors.room.collector import bound_arenas, freeze_modules, keep_trimmed
from finetuner.executors.room.drain import DRAIN_SECONDS, drain
from finetuner.executors.room.lifeline import end_with_parent
from finetuner.executors.room.log_bounds import bound_log
from finetuner.executors.room.settings import default_settings, read_settings
from finetuner.workspace.folder import Workspace, keep_files_private

from .access.access import Access
from .access.connections import bounded_connections
from .access.grpc_check import GrpcCheck
from .access.intake import Intake
from .flow.handler import Handler
from .flow.readiness import Readiness, StartingHealth
from .flow.rooms import Rooms
from .http_app import build_app
from .settings import GatewaySettings

# Jina's default is no limit of a message, and GOAWAY for a client that pings often, as Jina's own clients do. The rooms
# have the same options in the Flow's YAML.
SERVER_OPTIONS = {
    "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
    "grpc.max_send_message_length": MAX_MESSAGE_BYTES,
    "grpc.http2.min_recv_ping_interval_without_data_ms": 5000,
    "grpc.http2.max_ping_strikes": 0,
}
CONNECTION_OPTIONS = {
    "grpc.max_connection_idle_ms": 300_000,
    "grpc.server_handshake_timeout_ms": 10_000,
    "grpc.max_concurrent_streams": 256,
    "grpc.http2.bdp_probe": 0,  # a fast caller would have gRPC hold 100 MB of calls that nothing reads yet
    "grpc.experimental.tcp_max_read_chunk_size": 2**17,
}
CONNECTIONS = "grpc.max_allowed_incoming_connections"
# The event loop waits this long, several times a request, for a thread that parses a large body. Python's own: 5 ms.
SWITCH_SECONDS = 0.0005


# TLS 1.2 with forward secrecy and authenticated encryption, as gRPC's own; TLS 1.3 has nothing else.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
HSTS = [("strict-transport-security", "max-age=31536000")]

# Settings that Jina adds to a gateway's `uses_with`.
JINAS = {
    "title", "description", "no_debug_endpoints", "no_crud_endpoints", "expose_endpoints", "expose_graphql_endpoint",
    "cors",
}  # fmt: skip
ROOMS_PORT = 2  # index in the list of ports, after gRPC and HTTP


class FinetunerGateway(CompositeBaseServer, BaseGateway):  # type: ignore[misc]  # jina is not typed
    """The gateway of a Flow.

    A third port, if there is one, is for the rooms: gRPC on loopback without TLS. The certificate of the other ports
    is for the machine's public name, which the rooms do not use.

    Args:
        kwargs: the settings, and Jina's own arguments.

    Raises:
        InvalidInput: an invalid setting, or an address that other machines reach although there is no token.
    """

    settings: GatewaySettings

    def __init__(self, **kwargs: Any) -> None:
        given = {name: kwargs.pop(name) for name in default_settings(type(self)).keys() & kwargs.keys()}
        super().__init__(**kwargs)
        asked = (self.runtime_args.uses_with or {}) | given
        self.settings = read_settings(type(self), {name: asked[name] for name in asked.keys() - JINAS})
        end_with_parent()
        bound_log()
        freeze_modules()
        bound_arenas()
        keep_trimmed()
        sys.setswitchinterval(SWITCH_SECONDS)
        keep_files_private()
        settings = self.settings
        self._request_handler.access = Access(
            settings.token if settings.token is not None else os.environ.get(TOKEN) or None,
            None if settings.workspace_url is None else Workspace(settings.workspace_url).root,
            float(settings.rate_limit),
            self.runtime_args.host,
            float(settings.wrong_tokens),
        )
        self._request_handler.max_waiting = settings.max_waiting
        self._readiness = Readiness(Rooms(self._request_handler), float(settings.ready_timeout))
        self._starting: asyncio.Task[None] | None = None
        reached = self._readiness.reached
        self.servers = [
            HttpSide(settings, reached, **server)
            if server["runtime_args"]["protocol"] == ProtocolType.HTTP
            else GrpcSide(settings, reached, **(_for_rooms(server) if port == ROOMS_PORT else server))
            for port, server in enumerate(self._server_kwargs)
        ]

    def _get_request_handler(self) -> Handler:
        self.req_handler_cls = Handler  # Jina passes its own class, without our checks
        handler: Handler = super()._get_request_handler()
        return handler

    async def setup_server(self) -> None:
        """Open the ports. Health checks say that the gateway serves once it is ready."""
        await super().setup_server()
        self._starting = asyncio.create_task(self._readiness.reach())

    async def shutdown(self) -> None:
        """Finish all open requests, then close the connections to the rooms."""
        if self._starting is not None:
            self._starting.cancel()
        await super().shutdown()
        self._request_handler.access.close()
        await self._request_handler.close()


def _for_rooms(server: dict[str, Any]) -> dict[str, Any]:
    """Return a server's settings for loopback, without TLS."""
    without = {name: value for name, value in server.items() if not name.startswith("ssl_")}
    return {**without, "runtime_args": {**server["runtime_args"], "host": "127.0.0.1"}}


class GrpcSide(GRPCServer):  # type: ignore[misc]  # jina is not typed
    """Jina's gRPC server with access control and bounded messages."""

    def __init__(
        self, settings: GatewaySettings, reached: asyncio.Event, *, req_handler: Handler, **kwargs: Any
    ) -> None:
        # set first: Jina's constructor calls aio_tracing_server_interceptors
        self._intake = Intake(kwargs["runtime_args"]["port"], req_handler.logger)
        self._check = GrpcCheck(req_handler.access, req_handler.metrics, self._intake)
        options = {**(kwargs.pop("grpc_server_options", None) or {}), **SERVER_OPTIONS, **CONNECTION_OPTIONS}
        options[CONNECTIONS] = settings.max_connections
        super().__init__(req_handler=req_handler, grpc_server_options=options, **kwargs)
        self.health_servicer = StartingHealth(reached)

    def aio_tracing_server_interceptors(self) -> list[grpc.aio.ServerInterceptor]:
        """Return our interceptor, followed by Jina's."""
        return [self._check, *(super().aio_tracing_server_interceptors() or [])]

    async def setup_server(self) -> None:
        """Open the port."""
        await super().setup_server()
        self._intake.start()

    async def shutdown(self) -> None:
        """Finish open requests. The gateway closes the connections to the rooms."""
        await drain(self)
        self._intake.stop()


class HttpSide(FastAPIBaseServer):  # type: ignore[misc]  # jina is not typed
    """The FastAPI app in Jina's uvicorn server."""

    def __init__(self, settings: GatewaySettings, reached: asyncio.Event, **kwargs: Any) -> None:
        self._health_timeout = settings.health_timeout
        self._reached = reached
        super().__init__(**kwargs)
        self.uvicorn_kwargs["http"] = bounded_connections(settings.max_connections)
        if self.uvicorn_kwargs.get("ssl_certfile"):
            self.uvicorn_kwargs |= {"ssl_ciphers": CIPHERS, "headers": HSTS}
        # a log stream has no end of its own
        self.uvicorn_kwargs.setdefault("timeout_graceful_shutdown", DRAIN_SECONDS)
        # Jina's health check asks `/` for a 200, and warns that this route is not its own.
        self.logger.logger.addFilter(lambda record: "used for health checks" not in record.getMessage())

    @property
    def app(self) -> FastAPI:
        """A new app; Jina reads this once."""
        return build_app(
            self._request_handler, self._request_handler.access, self._health_timeout, self._reached.is_set
        )
