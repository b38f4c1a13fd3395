"""Shuts a gRPC server down without breaking requests that are in progress."""

from __future__ import annotations

from functools import cache

from jina.serve.runtimes.servers.grpc import GRPCServer

from finetuner.executors.room.jina_internals import close_handler, replace_shutdown, stop_server

DRAIN_SECONDS = 6.0  # for requests in progress; a stop without a run takes under 10 s


@cache
def finish_requests() -> None:
    """Let the room that Jina serves in this process finish its requests before it closes."""
    replace_shutdown(_shutdown)


async def _shutdown(server: GRPCServer) -> None:
    await drain(server)
    await close_handler(server)


async def drain(server: GRPCServer) -> None:
    """Report NOT_SERVING to health checks, refuse new requests, and wait for those in progress.

    A second call does nothing.

    Args:
        server: server after `setup_server`.
    """
    await stop_server(server, DRAIN_SECONDS)
