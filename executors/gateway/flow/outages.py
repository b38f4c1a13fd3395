"""Outages: Jina's network errors as exceptions of `finetuner.exceptions`, with the name of the room that failed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc
from jina.serve.runtimes.gateway.streamer import GatewayStreamer

from finetuner.contract.wire import ERROR_METADATA
from finetuner.exceptions import FinetunerError, FinetunerServerError, FlowUnreachable, by_name

# gRPC status of a room's answer -> HTTP status
STATUSES = {grpc.StatusCode.DEADLINE_EXCEEDED: 504, grpc.StatusCode.RESOURCE_EXHAUSTED: 413}
DOWN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND)


def outage(error: grpc.aio.AioRpcError, streamer: GatewayStreamer, endpoint: str) -> FinetunerError:
    """Return the exception for a request that a room did not answer.

    Args:
        error: Jina's InternalNetworkError, which holds the addresses that Jina tried, or gRPC's own error.
        streamer: the gateway's, with the connections to the rooms.
        endpoint: of the request.

    Returns:
        FlowUnreachable for a room that is down; the class that the room named, if it refused the request; else
        FinetunerServerError.
    """
    name = (error.trailing_metadata() or {}).get(ERROR_METADATA)
    if name:
        return by_name(str(name))(error.details())
    room = _room_at(getattr(error, "dest_addr", ()), streamer)
    if error.code() in DOWN:
        return FlowUnreachable(
            f"{room} must answer {endpoint}. It is down. The Flow starts it again: try later, and see /healthz."
        )
    reason = " ".join((error.details() or "").split())
    return FinetunerServerError(f"{room} must answer {endpoint}. It did not", reason, STATUSES.get(error.code(), 500))


def connections_of(streamer: GatewayStreamer) -> dict[str, Any]:
    """Return Jina's connections to the replicas of each room, by the room's name."""
    connections = streamer._connection_pool._connections
    found = {node.name: connections.get_replicas(node.name, head=True) for node in streamer.topology_graph.all_nodes}
    return {name: replicas for name, replicas in found.items() if replicas}  # the end of the graph has none


def _room_at(addresses: Iterable[str], streamer: GatewayStreamer) -> str:
    tried = set(addresses)
    for name, replicas in connections_of(streamer).items():
        if tried & {connection.address for connection in replicas.get_all_connections()}:
            return name
    return "a room of the Flow"
