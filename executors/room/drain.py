"""A process that is asked to stop says so to its health checks, takes nothing new, and finishes what it has begun."""

from __future__ import annotations

from jina.serve.runtimes.servers import BaseServer
from jina.serve.runtimes.servers.grpc import GRPCServer

DRAIN_SECONDS = 6.0  # for requests that are under way; a stop without a run takes under 10 s


def finish_requests() -> None:
    """Let the room that Jina serves in this process finish its requests before it closes.

    Jina closes the executor first, under the feet of what it is doing, and breaks the connections then.
    """
    GRPCServer.shutdown = _shutdown


async def _shutdown(server: GRPCServer) -> None:
    await stop_taking(server)
    await server._request_handler.close()


async def stop_taking(server: GRPCServer) -> None:
    """Turn health to NOT_SERVING, refuse new requests, and wait for those under way; a second call does nothing.

    Args:
        server: a gRPC server of Jina's that has been set up.
    """
    await BaseServer.shutdown(server)
    await server.health_servicer.enter_graceful_shutdown()
    await server.server.stop(DRAIN_SECONDS)
