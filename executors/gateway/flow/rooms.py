"""Asking the rooms from inside the gateway: a request through the Flow, and a control endpoint's value."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import grpc
from docarray import Document
from jina.excepts import InternalNetworkError
from jina.proto import jina_pb2
from jina.types.request.data import DataRequest

from finetuner.contract.wire import read_reply
from finetuner.exceptions import FinetunerServerError, NotFound

from .handler import Handler

# What Jina says about a room that did not answer, as HTTP statuses.
STATUSES = {
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.NOT_FOUND: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 413,
}

REPLICA_SECONDS = 10.0  # a room that computes with all its threads answers late
ENDPOINT_SECONDS = 10.0


class Rooms:
    """The rooms behind the gateway.

    Args:
        handler: Jina's way to them.
    """

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    async def require(self, endpoint: str) -> None:
        """Refuse an endpoint that no room binds: Jina would skip every room and send the documents back as they came.

        Raises:
            NotFound: with the endpoints that there are.
            FinetunerServerError: a room does not say which it has.
        """
        try:
            found = await asyncio.wait_for(self._handler.endpoint_discovery(), ENDPOINT_SECONDS)
        except (TimeoutError, InternalNetworkError):
            raise FinetunerServerError("a room of the Flow does not say its endpoints", "is it up?", 503) from None
        known = sorted(name for name in found.endpoints if name.startswith("/"))
        if endpoint not in known:
            raise NotFound(f"No room of this Flow has the endpoint {endpoint!r}. It has: {', '.join(known)}.")

    async def ask(self, request: DataRequest) -> DataRequest:
        """Send a request through the Flow.

        Raises:
            FinetunerServerError: a room did not answer, or failed in a way that is not a document's.
        """
        try:
            response = await self._handler.process_single_data(request)
        except InternalNetworkError as error:
            code = STATUSES.get(error.code(), 500)
            raise FinetunerServerError("a room of the Flow did not answer", error.details() or "", code) from None
        status = response.header.status
        if status.code == jina_pb2.StatusProto.ERROR:
            room = status.exception.executor or "a room of the Flow"
            raise FinetunerServerError(f"{room} failed", status.description, 500)
        return response

    async def post(self, endpoint: str, messages: Iterable[Any] = (), **parameters: Any) -> list[Any]:
        """Send documents, as protobuf messages, to an endpoint; return its answer likewise."""
        request = DataRequest()
        request.header.exec_endpoint = endpoint
        request.parameters = parameters
        request.proto_with_data.data.docs.docs.extend(messages)
        response = await self.ask(request)
        return list(response.proto_with_data.data.docs.docs)

    async def call(self, endpoint: str, messages: Iterable[Any] = (), **parameters: Any) -> Any:
        """Send documents to a control endpoint and return its value.

        Raises:
            FinetunerError: of the class that the room named.
        """
        answer = await self.post(endpoint, messages, **parameters)
        if not answer:
            raise NotFound(f"endpoint must be one that a room of this Flow binds. Got {endpoint!r}. Check its YAML.")
        return read_reply(Document.from_protobuf(answer[0]))

    async def states(self) -> dict[str, dict[str, int]]:
        """Return for each room how many replicas it has, and how many of them are `up`: they answer."""
        connections = self._handler.streamer._connection_pool._connections
        found = {
            node.name: connections.get_replicas(node.name, head=True)
            for node in self._handler.streamer.topology_graph.all_nodes
        }
        rooms = {name: replicas for name, replicas in found.items() if replicas}  # the graph's end is no room
        answering = await asyncio.gather(*(_answering(name, replicas) for name, replicas in rooms.items()))
        return {name: {"up": sum(each), "replicas": len(each)} for name, each in zip(rooms, answering, strict=True)}


async def _answering(name: str, replicas: Any) -> list[bool]:
    """Ask each replica of a room, in Jina's list of them, whether it answers."""

    async def answers(number: int) -> bool:
        for _ in range(2):  # a connection that nobody has used for minutes may be closed
            replica = replicas.get_all_connections()[number]
            try:
                await asyncio.wait_for(replica.send_discover_endpoint(), REPLICA_SECONDS)
            except TimeoutError:
                return False
            except grpc.aio.AioRpcError:
                await replicas.reset_connection(replica.address, name)  # this one would wait before it connects again
            else:
                return True
        return False

    return await asyncio.gather(*(answers(number) for number in range(len(replicas.get_all_connections()))))
