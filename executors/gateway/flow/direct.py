"""The short way of a request through a chain of rooms: the same calls as Jina's, without a copy of its graph.

Jina copies the graph of rooms for each request, writes the parameters anew for each room, and makes several tasks: more
work than a small model's. Connections, replicas, retries, timeouts, metrics and routes stay Jina's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from inspect import getclosurevars
from typing import Any

from jina.helper import GATEWAY_NAME
from jina.proto import jina_pb2
from jina.serve.runtimes.gateway.streamer import GatewayStreamer
from jina.types.request.data import DataRequest

SEPARATOR = "__"  # in the name of a parameter for one room
DEFAULT = "/default"  # endpoint of a room that answers all others
END = "__end_gateway__"


class Direct:
    """Sends requests to rooms that stand in one line.

    Args:
        streamer: the gateway's, with the graph of rooms and the connections to them.
    """

    def __init__(self, streamer: GatewayStreamer) -> None:
        self._pool = streamer._connection_pool
        self._jina = getclosurevars(streamer._streamer._request_handler).nonlocals["self"]
        self._chain = _chain(streamer.topology_graph)
        self._names = {room.name for room in self._chain}
        self._visited = lru_cache(256)(self._find)

    def rooms(self, request: DataRequest) -> tuple[Any, ...]:
        """Return the rooms that a request visits, in their order; none for a request that must take Jina's way.

        The endpoints of all rooms must be known.
        """
        message = request.proto_with_data
        if any(SEPARATOR in name or name in self._names for name in message.parameters.fields):
            return ()  # some are for one room
        return self._visited(message.header.exec_endpoint, message.header.target_executor)

    async def send(self, request: DataRequest, rooms: Sequence[Any]) -> DataRequest:
        """Return the answer of the last room, or of the first that fails, as Jina's graph does.

        Raises:
            grpc.aio.AioRpcError: Jina's InternalNetworkError of a room that is down, or gRPC's own.
        """
        endpoint, identity = request.header.exec_endpoint, request.header.request_id
        self._jina._update_start_request_metrics(request)
        request.header.target_executor = ""
        routes = [_route(GATEWAY_NAME)]
        answer = request
        try:
            for room in rooms:
                routes.append(_route(room.name))
                found = await self._pool.send_requests_once(
                    requests=[answer],
                    deployment=room.name,
                    metadata=room._metadata,
                    head=True,
                    endpoint=endpoint,
                    timeout=room._timeout_send,
                    retries=room._retries,
                )
                if isinstance(found, BaseException):
                    raise found
                answer, metadata = found
                routes[-1].end_time.GetCurrentTime()
                if metadata and "is-error" in metadata:
                    routes[-1].status.CopyFrom(answer.header.status)
                    break
        except BaseException:
            self._jina._update_end_failed_requests_metrics()
            raise
        message = answer.proto_with_data
        message.ClearField("routes")
        routes[0].end_time.GetCurrentTime()
        message.routes.extend(routes)
        message.header.request_id = identity
        self._jina._update_end_request_metrics(answer)
        return answer

    def replicas(self, room: Any) -> int:
        """Return the number of a room's replicas."""
        return len(self._pool._connections.get_replicas(room.name, head=True).get_all_connections())

    def _find(self, endpoint: str, pattern: str) -> tuple[Any, ...]:
        found = [room for room in self._chain if endpoint in room.endpoints or DEFAULT in room.endpoints]
        return tuple(room for room in found if not pattern or re.match(pattern, room.name))


def _route(name: str) -> Any:
    route = jina_pb2.RouteProto(executor=name)
    route.start_time.GetCurrentTime()
    return route


def _chain(graph: Any) -> tuple[Any, ...]:
    """Return the rooms of a graph in their order; none if it branches, filters or does not wait for a room."""
    rooms, nodes = [], graph.origin_nodes
    while len(nodes) == 1 and nodes[0].name != END and not graph.has_filter_conditions:
        (node,) = nodes
        if node.number_of_parts > 1 or node.floating or node.endpoints is None:
            return ()
        rooms.append(node)
        nodes = node.outgoing_nodes
    return tuple(rooms) if [node.name for node in nodes] == [END] else ()
