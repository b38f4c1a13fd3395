"""The gateway's request handler: checks, bounds and counts each gRPC request before Jina sends it to the rooms."""

from __future__ import annotations

import asyncio
import math
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from typing import Any

import grpc
from docarray import DocumentArray
from jina.enums import ProtocolType
from jina.excepts import InternalNetworkError
from jina.proto import jina_pb2
from jina.serve.runtimes.gateway.request_handling import GatewayRequestHandler
from jina.types.request.data import DataRequest

from finetuner.contract import wire
from finetuner.contract.environment import CONTRACT, HTTP_PORT, VERSION
from finetuner.contract.wire import MAX_MESSAGE_BYTES, MAX_MESSAGE_DOCUMENTS
from finetuner.documents.iterate import with_parts
from finetuner.exceptions import FinetunerError, FlowUnreachable, InvalidInput, NotFound
from finetuner.executors.room.bounds import check_request
from finetuner.executors.room.messages import count_without_serializing, require_documents
from finetuner.version import __version__

from ..access.access import CALLER, Access, Entry, who
from ..access.entries import Entries
from ..access.errors import abort, status_of
from ..access.grpc_check import admit
from ..access.metrics import GatewayMetrics
from .calls import Budget, answer_each, aside
from .clip_client import EncodeCall, read_path, sort_routes
from .direct import Direct
from .documents import response_status
from .encoders import through_encoders
from .fields import check_fields
from .outages import outage
from .rooms_secret import add_secret
from .shortcut import bound_texts, check_rooms_parameters, check_search, choose_room, name_owner, pass_encoders
from .together import ON_THEIR_WAY, Line, Together, may_share

RETRY_SECONDS = 5.0
ENDPOINT_SECONDS = 10.0
BYTES_IN_FLIGHT = 2 * MAX_MESSAGE_BYTES
DOCUMENT_BYTES = BYTES_IN_FLIGHT // MAX_MESSAGE_DOCUMENTS
TAGS_WEIGHT, PARAMETERS_WEIGHT = 64, 512
LIGHT = BYTES_IN_FLIGHT // 32


class Handler(GatewayRequestHandler):  # type: ignore[misc]  # jina is not typed
    """Jina's request handler with our checks and bounds. The HTTP side shares it."""

    access: Access
    """The valid tokens; the gateway sets it."""
    max_waiting: int
    """Texts of short requests that wait for the rooms at the same time; the gateway sets it."""

    def __init__(self, *, args: Any, metrics_registry: Any = None, **kwargs: Any) -> None:
        add_secret(args)
        super().__init__(args=args, metrics_registry=metrics_registry, **kwargs)
        count_without_serializing()
        self.metrics = GatewayMetrics(metrics_registry)
        self._asked_at = -math.inf
        self._budget = Budget(BYTES_IN_FLIGHT)
        self._direct: Direct | None = None
        self._known: dict[str, Sequence[str]] = {}
        self._bound: frozenset[str] = frozenset()
        self._ids = map(f"{uuid.uuid4().hex}-{{}}".format, count())
        self._together = Together(self._line)

    async def stream(
        self, request_iterator: AsyncIterator[DataRequest], context: Any = None, *args: Any, **kwargs: Any
    ) -> AsyncIterator[DataRequest]:
        """Answer a stream of requests."""
        endpoint, entries, refusal, call = "", Entries(), None, EncodeCall()
        turns, caller = self.access.turns, who()

        async def checked() -> AsyncIterator[DataRequest]:
            nonlocal endpoint, refusal
            async for request in request_iterator:
                try:
                    await turns.take(caller)
                    await self._read(request)
                    read_path(request)
                    endpoint = request.proto_with_data.header.exec_endpoint
                    call.asked(request)
                    entries.add(request, await self._admit(request, context))
                except FinetunerError as error:  # ends the call, once the requests before it are answered
                    refusal = error
                    return
                yield request

        most, in_order = _options(context, self.runtime_args.prefetch)
        try:
            async for response in answer_each(checked(), self._forward, most, in_order=in_order):
                entries.close(response, self._count(response, endpoint))
                sort_routes(response)
                call.answered(response)
                yield response
        except (grpc.aio.AioRpcError, FinetunerError) as error:
            await abort(context, self._failed(error, endpoint), unread=request_iterator)
        except Exception:
            self.metrics.answered("grpc", endpoint, "failed")
            raise
        finally:
            entries.close_left()
        if refusal is not None:
            self.metrics.answered("grpc", endpoint, "refused")
            await abort(context, refusal, unread=request_iterator)
        if call.error is not None:  # each answer has been sent and counted
            await abort(context, call.error)

    async def process_single_data(self, request: DataRequest, context: Any = None) -> DataRequest:
        """Answer one request. The HTTP side calls this without a context, and counts its requests itself."""
        endpoint = ""
        try:
            if context is not None:
                await self.access.turns.take(who())
                await self._read(request)
            read_path(request)
            endpoint = request.proto_with_data.header.exec_endpoint
            entry = await self._admit(request, context)
        except FinetunerError as error:
            if context is None:
                raise
            self.metrics.answered("grpc", endpoint, "refused")
            await abort(context, error)
        status: Callable[[], int] = lambda: 500  # noqa: E731
        try:
            response = await self._forward(request)
            sort_routes(response)
            if entry is not None:
                status = self._count(response, endpoint)
            return response
        except (grpc.aio.AioRpcError, FinetunerError) as error:
            if entry is None:
                raise
            failure = self._failed(error, endpoint)
            status = partial(status_of, failure)
            await abort(context, failure)
        finally:
            if entry is not None:
                entry.close(status)

    def _failed(self, error: grpc.aio.AioRpcError | FinetunerError, endpoint: str) -> FinetunerError:
        """Count a request that the rooms did not answer, and return the error for its caller."""
        refused = isinstance(error, FinetunerError) and status_of(error) < 500
        self.metrics.answered("grpc", endpoint, "refused" if refused else "failed")
        return error if isinstance(error, FinetunerError) else outage(error, self.streamer, endpoint)

    async def _read(self, request: DataRequest) -> None:
        """Read a message that has arrived over gRPC.

        Raises:
            InvalidInput: more documents or parts than a message may have, or documents that no room could read.
        """

        def read() -> None:
            check_request(request)
            require_documents(request)
            check_fields(request.proto_with_data.data.docs.docs)
            request.proto_with_data.ClearField("routes")  # Jina would look through a caller's own for each room

        await aside(len(request.buffer or b""), read)

    async def _forward(self, request: DataRequest) -> DataRequest:
        """Send a request through the rooms that it needs, under an id of ours.

        Jina measures requests by their ids: two of one id at the same time, or two without one, would fail.
        """
        header = request.proto_with_data.header
        given, header.request_id = header.request_id, next(self._ids)
        response = await through_encoders(request, self._endpoints(), self._send)
        response.proto_with_data.header.request_id = given
        return response

    async def _send(self, request: DataRequest) -> DataRequest:
        """Send a request through the rooms. If this is canceled, the room that has the request hears of it.

        Jina's `stream` would raise the same errors, and go on without its caller.
        """
        rooms = self._direct.rooms(request) if self._direct is not None else ()
        try:
            if rooms and may_share(request) and not self.runtime_args.tracing:
                return await self._together.ask(request, who())
            async with self._budget.hold(_weight(request)):
                if rooms and self._direct is not None:
                    return await self._direct.send(request, rooms)
                streamer = self.streamer._streamer
                answered, _ = streamer._request_handler(request=request, return_type=DocumentArray)
                return streamer._result_handler(await answered)
        except grpc.aio.AioRpcError as error:
            self.logger.error(f"Error while getting responses from deployments: {error.details()}")
            raise

    def _line(self, request: DataRequest) -> Line:
        """Return the line of requests that share messages to the rooms of this one."""
        direct = self._direct
        assert direct is not None
        rooms = direct.rooms(request)
        ways = ON_THEIR_WAY * min(map(direct.replicas, rooms))
        return Line(partial(direct.send, rooms=rooms), ways, self.max_waiting, self.access.turns)

    async def endpoint_discovery(self, empty: Any = None, context: Any = None) -> jina_pb2.EndpointsProto:
        """Return the endpoints of all rooms. The rooms are asked once.

        Jina's own method looks for DocArray v2 schemas and fails with v1.
        """
        # Jina keeps the answers in the graph, and copies the graph for each request
        found = await self.streamer.topology_graph._get_all_endpoints(self.streamer._connection_pool)
        return jina_pb2.EndpointsProto(endpoints=sorted(found))

    async def _status(self, empty: Any, context: Any) -> jina_pb2.JinaInfoProto:
        """Return Jina's versions and ours, and the port of the HTTP side for clients that only know the gRPC side."""
        info = await super()._status(empty, context)
        info.envs[CONTRACT], info.envs[VERSION] = str(wire.CONTRACT), __version__
        for protocol, port in zip(self.runtime_args.protocol, self.runtime_args.port, strict=False):
            if protocol == ProtocolType.HTTP:
                info.envs[HTTP_PORT] = str(port)
        return info

    async def _learn_endpoints(self) -> None:
        """Ask the rooms for their endpoints, so a request visits only the rooms that bind its own.

        Jina asks as well, but loses the answer with its copy of the graph. Every request would visit every room, and
        a trainer that is down would stop the search. If a room does not answer, we ask again after RETRY_SECONDS;
        until then requests take Jina's way.
        """
        if time.monotonic() < self._asked_at + RETRY_SECONDS:
            return
        self._asked_at = time.monotonic()
        with suppress(TimeoutError, InternalNetworkError):
            await asyncio.wait_for(self.endpoint_discovery(), RETRY_SECONDS)
            for node in self.streamer.topology_graph.all_nodes:
                # Jina copies the graph for each request; copies of these messages took half of the gateway's time
                node.endpoints, node._endpoints_proto = node.endpoints and tuple(node.endpoints), ()
            self._asked_at = math.inf
            self._direct = Direct(self.streamer)
            nodes = self.streamer.topology_graph.all_nodes
            self._known = {
                node.name: node.endpoints for node in nodes if node.endpoints is not None
            }  # its end has none
            self._bound = frozenset(endpoint for endpoints in self._known.values() for endpoint in endpoints)

    async def require(self, endpoint: str) -> None:
        """Refuse an endpoint that no room binds. Jina would skip every room and return the documents unchanged.

        Raises:
            NotFound: the message lists the endpoints of the Flow.
            FlowUnreachable: no other room binds it, and a room did not list its endpoints.
        """
        if endpoint in self._bound or any(
            endpoint in (node.endpoints or ()) for node in self.streamer.topology_graph.all_nodes
        ):
            return
        try:
            found = await asyncio.wait_for(self.endpoint_discovery(), ENDPOINT_SECONDS)
        except (TimeoutError, grpc.aio.AioRpcError):
            raise FlowUnreachable(
                f"every room of the Flow must list its endpoints within {ENDPOINT_SECONDS:g} s. One did not. "
                "Try later, and see /healthz."
            ) from None
        known = sorted(name for name in found.endpoints if name.startswith("/"))
        if endpoint not in known:
            raise NotFound(
                f"endpoint must be one that a room of this Flow binds: {', '.join(known)}. Got {endpoint!r:.200}."
            )

    async def stream_doc(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Refuse single documents: they belong to DocArray v2, and no room takes them."""
        error = InvalidInput("Documents must come in a DataRequest. Got a single document. Use jina.Client.post.")
        await abort(context, error, grpc.StatusCode.UNIMPLEMENTED)
        yield  # not reached; makes this a generator, which gRPC expects

    async def _admit(self, request: DataRequest, context: Any) -> Entry | None:
        """Admit a request and choose its rooms. Without a context, the HTTP side has already admitted it.

        Raises:
            FinetunerError: the request is refused.
        """
        message = request.proto_with_data
        entry, endpoint = None, message.header.exec_endpoint
        if context is not None:
            entry = admit(self.access, context, endpoint, len(message.data.docs.docs))
        await self._learn_endpoints()
        try:
            choose_room(request, self.executor)
            check_rooms_parameters(request, self.executor)
            bound_texts(request)
            check_search(request)
            if entry is not None:
                await self.require(endpoint)
        except FinetunerError as error:
            if entry is not None:
                entry.close(partial(status_of, error))
            raise
        name_owner(request, CALLER.get())
        pass_encoders(request, self._endpoints())
        return entry

    def _endpoints(self) -> dict[str, Sequence[str]]:
        """Return the endpoints of each room; of none until those of all rooms are known."""
        return self._known

    def _count(self, response: DataRequest, endpoint: str) -> Callable[[], int]:
        """Count an answer. The returned function reads the answer's HTTP status from its documents."""
        header = response.proto_with_data.header
        failed = header.status.code == jina_pb2.StatusProto.ERROR
        self.metrics.answered("grpc", header.exec_endpoint or endpoint, "failed" if failed else "ok")
        return lambda: 500 if failed else response_status(response)

    Call = stream


def _weight(request: DataRequest) -> int:
    """Return the bytes that a request counts for among those in flight; 0 for a light one, which waits for no other.

    A room converts documents, tags and parameters in its event loop, which takes far more time than their bytes tell.
    """
    message = request.proto_with_data
    parts = [part for document in message.data.docs.docs for part in with_parts(document)]
    values = TAGS_WEIGHT * sum(part.tags.ByteSize() for part in parts)
    values += PARAMETERS_WEIGHT * message.parameters.ByteSize()
    weight = int(message.ByteSize() + values + DOCUMENT_BYTES * len(parts))
    return weight if weight > LIGHT else 0


def _options(context: Any, most: int) -> tuple[int, bool]:
    """Return a stream's number of requests in flight, and whether its answers keep the order of the requests.

    They come as the call's metadata.

    Args:
        context: of the call.
        most: requests in flight that the Flow allows, 0 for 1; a `__prefetch__` outside [1, most] is ignored.
    """
    metadata = dict(context.invocation_metadata() or ()) if context is not None else {}
    prefetch, most = metadata.get("__prefetch__", ""), max(most, 1)
    asked = int(prefetch) if prefetch.isdecimal() and len(prefetch) < 8 else 0
    return asked if 1 <= asked <= most else most, metadata.get("__results_in_order__") == "true"
