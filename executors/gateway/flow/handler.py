"""What the gateway does with each gRPC request before Jina passes it on: let it in, bound it, check it, count it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import grpc
from jina.enums import ProtocolType
from jina.excepts import InternalNetworkError
from jina.proto import jina_pb2
from jina.serve.runtimes.gateway.request_handling import GatewayRequestHandler
from jina.types.request.data import DataRequest

from executors.room.messages import count_without_serializing, refuse_pickle
from finetuner.contract.environment import HTTP_PORT
from finetuner.exceptions import FinetunerError

from ..access.access import Access, Entry
from ..access.entries import Entries
from ..access.grpc_check import enter, refuse
from ..access.metrics import GatewayMetrics
from .clip_client import read_path, sort_routes
from .documents import response_status
from .shortcut import pass_encoders

ASK_AGAIN = 5.0  # seconds


class Handler(GatewayRequestHandler):  # type: ignore[misc]  # jina is not typed
    """Jina's request handler with our bounds. The HTTP side shares it."""

    access: Access
    """Who may enter; the gateway sets it."""

    def __init__(self, *, args: Any, metrics_registry: Any = None, **kwargs: Any) -> None:
        super().__init__(args=args, metrics_registry=metrics_registry, **kwargs)
        count_without_serializing()
        self.metrics = GatewayMetrics(metrics_registry)
        self._asked_at = -math.inf

    async def stream(
        self, request_iterator: AsyncIterator[DataRequest], context: Any = None, *args: Any, **kwargs: Any
    ) -> AsyncIterator[DataRequest]:
        """Answer a stream of requests."""
        endpoint, answered, entries, refusal = "", False, Entries(), None
        bounded = _BoundedCall(context, self.runtime_args.prefetch)

        async def checked() -> AsyncIterator[DataRequest]:
            nonlocal endpoint, refusal
            async for request in request_iterator:
                read_path(request)
                endpoint = request.header.exec_endpoint
                try:
                    entries.add(request, await self._admit(request, context))
                except FinetunerError as error:  # the call ends with it, once what came before is answered
                    refusal = error
                    return
                yield request

        try:
            async for response in super().stream(checked(), bounded, *args, **kwargs):
                entries.close(response, self._count(response, endpoint))
                sort_routes(response)
                answered = True
                yield response
            if refusal is not None:
                self.metrics.answered("grpc", endpoint, "refused")
                await refuse(context, refusal)
        except Exception:
            if not answered and refusal is None:
                self.metrics.answered("grpc", endpoint, "failed")
            raise
        finally:
            entries.close_left()

    async def process_single_data(self, request: DataRequest, context: Any = None) -> DataRequest:
        """Answer one request."""
        read_path(request)
        try:
            entry, status = await self._admit(request, context), lambda: 500
        except FinetunerError as error:
            self.metrics.answered("grpc", request.header.exec_endpoint, "refused")
            await refuse(context, error)
        try:
            response = await super().process_single_data(request, context)
            sort_routes(response)
            if entry is not None:  # the HTTP side counts its requests itself
                status = self._count(response, request.header.exec_endpoint)
            return response
        finally:
            if entry is not None:
                entry.close(status)

    async def endpoint_discovery(self, empty: Any = None, context: Any = None) -> jina_pb2.EndpointsProto:
        """Return the endpoints of all rooms, asked once.

        Jina's own method looks for DocArray v2 schemas and fails on v1.
        """
        # kept in the graph, which Jina copies for each request
        found = await self.streamer.topology_graph._get_all_endpoints(self.streamer._connection_pool)
        return jina_pb2.EndpointsProto(endpoints=sorted(found))

    async def _status(self, empty: Any, context: Any) -> jina_pb2.JinaInfoProto:
        """Return Jina's versions, and the port of the HTTP side, for clients that know the gRPC side only."""
        info = await super()._status(empty, context)
        for protocol, port in zip(self.runtime_args.protocol, self.runtime_args.port, strict=False):
            if protocol == ProtocolType.HTTP:
                info.envs[HTTP_PORT] = str(port)
        return info

    async def _learn_endpoints(self) -> None:
        """Ask the rooms for their endpoints, so that a request visits only those that bind its own.

        Jina asks as well, but forgets the answer with its copy of the graph: every request would visit every
        room, and a trainer that is down would stop the search. While a room does not answer, we ask now and then,
        and Jina's way has to do.
        """
        if time.monotonic() < self._asked_at + ASK_AGAIN:
            return
        self._asked_at = time.monotonic()
        with suppress(TimeoutError, InternalNetworkError):
            await asyncio.wait_for(self.endpoint_discovery(), ASK_AGAIN)
            for node in self.streamer.topology_graph.all_nodes:
                # Jina copies the graph with each request: of messages that took half of the gateway's time
                node.endpoints, node._endpoints_proto = node.endpoints and tuple(node.endpoints), ()
            self._asked_at = math.inf

    async def stream_doc(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Refuse: single documents are of DocArray v2, and no room takes them."""
        await context.abort(
            grpc.StatusCode.UNIMPLEMENTED, "Documents must come in a DataRequest. Use jina.Client.post."
        )
        yield  # never reached; makes this a generator, as gRPC expects

    async def _admit(self, request: DataRequest, context: Any) -> Entry | None:
        """Let a request in and choose its rooms; the HTTP side, which has no context, has let its own in.

        Raises:
            FinetunerError: what stands against it.
        """
        entry = None
        if context is not None:
            refuse_pickle(request)
            documents = len(request.proto_with_data.data.docs.docs)
            entry = enter(self.access, context, request.header.exec_endpoint, documents)
        await self._learn_endpoints()
        if self._asked_at == math.inf:  # all rooms have told their endpoints; the end of the graph has none
            nodes = self.streamer.topology_graph.all_nodes
            pass_encoders(request, {node.name: node.endpoints for node in nodes if node.endpoints is not None})
        return entry

    def _count(self, response: DataRequest, endpoint: str) -> Callable[[], int]:
        """Count an answer; return what reads, from its documents, what HTTP would call it."""
        # where a room does not answer, Jina ends the stream with an empty response
        unanswered = not response.header.exec_endpoint
        failed = unanswered or response.header.status.code == jina_pb2.StatusProto.ERROR
        self.metrics.answered("grpc", response.header.exec_endpoint or endpoint, "failed" if failed else "ok")
        return lambda: 500 if failed else response_status(response)

    Call = stream


class _BoundedCall:
    """A gRPC call whose client cannot ask for more requests in flight than the Flow allows.

    Jina believes the client's `__prefetch__` header, whatever the number, and 0 means no bound at all.
    """

    def __init__(self, context: Any, most: int) -> None:
        self._context = context
        self._most = most

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def invocation_metadata(self) -> tuple[Any, ...]:
        """Return the call's headers without a `__prefetch__` that is out of range."""
        return tuple(
            header
            for header in self._context.invocation_metadata()
            if header.key != "__prefetch__" or (header.value.isdecimal() and 1 <= int(header.value) <= self._most)
        )
