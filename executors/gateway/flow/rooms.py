"""Requests from the gateway to the rooms: whole requests, and single values of control endpoints."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import grpc
from docarray import Document
from jina.proto import jina_pb2
from jina.types.request.data import DataRequest

from finetuner.contract.wire import PROBLEMS, ROOM, read_reply
from finetuner.exceptions import FinetunerError, FinetunerServerError, NotFound

from .documents import check_parameters
from .handler import Handler
from .outages import connections_of, outage

REPLICA_SECONDS = 10.0  # a room that computes with all its threads answers late


class Rooms:
    """The rooms behind the gateway.

    Args:
        handler: Jina's request handler, which holds the connections.
    """

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    async def require(self, endpoint: str) -> None:
        """Refuse an endpoint that no room binds, see `Handler.require`."""
        await self._handler.require(endpoint)

    async def ask(self, request: DataRequest) -> DataRequest:
        """Send a request through the Flow.

        Raises:
            FlowUnreachable: a room is down.
            FinetunerServerError: a room failed, other than on single documents.
        """
        endpoint = request.header.exec_endpoint
        try:
            response = await self._handler.process_single_data(request)
        except grpc.aio.AioRpcError as error:
            raise outage(error, self._handler.streamer, endpoint) from None
        status = response.header.status
        if status.code == jina_pb2.StatusProto.ERROR:
            room = status.exception.executor or "a room of the Flow"
            raise FinetunerServerError(f"{room} failed", status.description, 500)
        return response

    async def post(self, endpoint: str, messages: Iterable[Any] = (), **parameters: Any) -> list[Any]:
        """Send documents, as protobuf messages, to an endpoint and return its answer as messages.

        Raises:
            InvalidInput: too many parameters.
        """
        message = jina_pb2.DataRequestProto()  # DataRequest() would draw a random id
        message.header.exec_endpoint = endpoint
        message.data.docs.docs.extend(messages)
        request = DataRequest(message)
        check_parameters(parameters)
        request.parameters = parameters
        response = await self.ask(request)
        return list(response.proto_with_data.data.docs.docs)

    async def call(self, endpoint: str, messages: Iterable[Any] = (), **parameters: Any) -> Any:
        """Send documents to a control endpoint and return its value.

        Raises:
            FinetunerError: of the class that the room named.
        """
        answer = await self.post(endpoint, messages, **parameters)
        if not answer:
            raise NotFound(
                f"endpoint must be one that a room of this Flow binds. Got {endpoint!r}. Check the Flow's YAML."
            )
        return read_reply(Document.from_protobuf(answer[0]))

    async def states(self) -> dict[str, dict[str, int]]:
        """Return for each room the number of its `replicas`, and the number of those that are `up`."""
        rooms = connections_of(self._handler.streamer)
        answers = await asyncio.gather(*(_answering(name, replicas) for name, replicas in rooms.items()))
        return {name: {"up": sum(each), "replicas": len(each)} for name, each in zip(rooms, answers, strict=True)}

    async def problems(self) -> list[str]:
        """Return the problems of all rooms, each once and after the names of its rooms. A silent room is left out."""
        names = list(connections_of(self._handler.streamer))
        found: dict[str, list[str]] = {}
        for name, answers in zip(names, await asyncio.gather(*map(self._problems_of, names)), strict=True):
            for problem in answers:
                found.setdefault(problem, []).append(name)
        return [f"{', '.join(rooms)}: {problem}" for problem, rooms in found.items()]

    async def descriptions(self) -> dict[str, Any]:
        """Return what each room says of itself, None for a silent one. Of several replicas, one answers."""
        names = list(connections_of(self._handler.streamer))
        answers = await asyncio.gather(*(self._of_room(name, ROOM) for name in names))
        return {name: each if isinstance(each, dict) else None for name, each in zip(names, answers, strict=True)}

    async def _problems_of(self, room: str) -> list[str]:
        found = await self._of_room(room, PROBLEMS)
        return found if isinstance(found, list) else []  # a room of other makers

    async def _of_room(self, room: str, endpoint: str) -> Any:
        """Return the value of an endpoint that every room binds, None if this one is silent: its state says so."""
        request = DataRequest()
        request.header.exec_endpoint = endpoint
        request.header.target_executor = room
        try:
            answer = await asyncio.wait_for(self.ask(request), REPLICA_SECONDS)
            documents = answer.proto_with_data.data.docs.docs
            return read_reply(Document.from_protobuf(documents[0])) if documents else None
        except (TimeoutError, FinetunerError):
            return None


async def _answering(name: str, replicas: Any) -> list[bool]:
    """Return for each replica of a room, in Jina's list of connections, whether it answers."""

    async def answers(number: int) -> bool:
        for _ in range(2):  # an idle connection may have been closed
            replica = replicas.get_all_connections()[number]
            try:
                await asyncio.wait_for(replica.send_discover_endpoint(), REPLICA_SECONDS)
            except TimeoutError:
                return False
            except grpc.aio.AioRpcError:
                await replicas.reset_connection(replica.address, name)  # a failed one would wait before it reconnects
            else:
                return True
        return False

    return await asyncio.gather(*(answers(number) for number in range(len(replicas.get_all_connections()))))
