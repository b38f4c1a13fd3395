"""What the gateway does with each gRPC request before Jina passes it on: bound it, check it, count it."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import grpc
from jina.enums import ProtocolType
from jina.excepts import InternalNetworkError
from jina.proto import jina_pb2
from jina.serve.runtimes.gateway.request_handling import GatewayRequestHandler
from jina.types.request.data import DataRequest

from finetuner.hub import HTTP_PORT

from .clip_client import read_path, sort_routes
from .measures import Measures
from .shortcut import pass_encoders

ASK_AGAIN = 5.0  # seconds


class Handler(GatewayRequestHandler):  # type: ignore[misc]  # jina is not typed
    """Jina's request handler with our bounds. The HTTP side shares it."""

    def __init__(self, *, args: Any, metrics_registry: Any = None, **kwargs: Any) -> None:
        super().__init__(args=args, metrics_registry=metrics_registry, **kwargs)
        self.measures = Measures(metrics_registry)
        self._asked_at = -math.inf

    async def stream(
        self, request_iterator: AsyncIterator[DataRequest], context: Any = None, *args: Any, **kwargs: Any
    ) -> AsyncIterator[DataRequest]:
        """Answer a stream of requests."""
        endpoint, answered = "", False
        bounded = _BoundedCall(context, self.runtime_args.prefetch)

        async def checked() -> AsyncIterator[DataRequest]:
            nonlocal endpoint
            async for request in request_iterator:
                read_path(request)
                endpoint = request.header.exec_endpoint
                await self._admit(request, context)
                yield request

        try:
            async for response in super().stream(checked(), bounded, *args, **kwargs):
                self._count(response, endpoint)
                sort_routes(response)
                answered = True
                yield response
        except Exception:
            if not answered:
                self.measures.answered("grpc", endpoint, "failed")
            raise

    async def process_single_data(self, request: DataRequest, context: Any = None) -> DataRequest:
        """Answer one request."""
        read_path(request)
        await self._admit(request, context)
        response = await super().process_single_data(request, context)
        sort_routes(response)
        if context is not None:  # the HTTP side has none, and counts its requests itself
            self._count(response, request.header.exec_endpoint)
        return response

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
            self._asked_at = math.inf

    async def _admit(self, request: DataRequest, context: Any) -> None:
        """Refuse a request, or choose its rooms."""
        if context is not None:  # the HTTP side has none, and reads JSON
            await _refuse_pickle(request, context)
        await self._learn_endpoints()
        if self._asked_at == math.inf:  # all rooms have told their endpoints; the end of the graph has none
            nodes = self.streamer.topology_graph.all_nodes
            pass_encoders(request, {node.name: node.endpoints for node in nodes if node.endpoints is not None})

    def _count(self, response: DataRequest, endpoint: str) -> None:
        # where a room does not answer, Jina ends the stream with an empty response
        unanswered = not response.header.exec_endpoint
        failed = unanswered or response.header.status.code == jina_pb2.StatusProto.ERROR
        self.measures.answered("grpc", response.header.exec_endpoint or endpoint, "failed" if failed else "ok")

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


async def _refuse_pickle(request: DataRequest, context: Any) -> None:
    """Refuse documents that come as `docs_bytes`: DocArray would unpickle them, which runs the sender's code."""
    if request.proto_with_data.data.WhichOneof("documents") == "docs_bytes":
        await context.abort(
            grpc.StatusCode.INVALID_ARGUMENT,
            "Documents must come in the request's field `docs`. Got `docs_bytes`, which holds a pickle. "
            "Send them with jina.Client.",
        )
