"""Adapts Jina's private parts for rooms. Each function replaces or satisfies one part, and gives the reason.

This module holds only the seams; `drain`, `messages` and `room` hold the behaviour. `tests/room/test_jina_internals.py`
tests each seam. A test fails when another version of Jina changes the part or no longer needs the adaptation.

The other seams stay in their folders: the client must not import this module, the gateway subclasses Jina's servers.

| seam | part of Jina | tests |
|---|---|---|
| `finetuner/flow/room_process.py` | `pods.run`, `start_http_server`, the event loop | `tests/client/flow` |
| `finetuner/api/hub_executor.py` | `Deployment.__init__`: the hub's name of our executor | `tests/client/api` |
| `executors/gateway/gateway.py` | the servers that `CompositeBaseServer` makes | `tests/gateway` |
| `executors/gateway/flow/handler.py` | `GatewayRequestHandler` and the graph of rooms | `tests/gateway` |
| `executors/gateway/flow/direct.py` | requests to rooms in one line, past the graph | `tests/gateway` |
| `executors/gateway/flow/rooms.py` | the pool of connections to replicas | `tests/gateway` |

The tests of each are in `test_jina_internals.py` of that folder.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from functools import wraps
from inspect import Parameter, Signature, iscoroutinefunction, signature
from logging import Logger, LogRecord
from types import SimpleNamespace
from typing import Any

from grpc.aio import ServerInterceptor
from jina import Executor
from jina.proto import serializer
from jina.serve.runtimes.servers import BaseServer
from jina.serve.runtimes.servers.grpc import GRPCServer
from jina.serve.runtimes.worker.request_handling import WorkerRequestHandler
from jina.types.mixin import ProtoTypeMixin
from jina.types.request.data import DataRequest

ProcessData = Callable[..., Coroutine[Any, Any, DataRequest]]
Answers = Callable[[Any, str, Sequence[Any]], bool]
Answer = Callable[[Any, str, Sequence[Any], dict[str, Any]], Awaitable[None]]

EXECUTOR_ARGUMENTS = frozenset(signature(Executor).parameters) - {"kwargs"}
"""Names that Jina passes to an executor's constructor beside `uses_with`."""


def is_served(executor: Any) -> bool:
    """Return whether Jina serves this executor in this process; otherwise a script or a test has made it.

    Jina passes a `shard_id` in `runtime_args` to the executors that it serves.
    """
    return hasattr(executor.runtime_args, "shard_id")


def name_settings(room: type[Any], defaults: Mapping[str, Any]) -> None:
    """Name the settings in the signature of a room's constructor.

    Jina's YAML parser logs a warning about each name in `uses_with` that no constructor's signature has. Ours take
    `**kwargs`.

    Args:
        room: class of the room, during its creation.
        defaults: default of each setting, by name.
    """
    if "__init__" not in vars(room):
        inherited = room.__init__

        @wraps(inherited)
        def construct(self: Any, **kwargs: Any) -> None:
            inherited(self, **kwargs)

        room.__init__ = construct
    settings = [Parameter(name, Parameter.KEYWORD_ONLY, default=default) for name, default in defaults.items()]
    first, last = Parameter("self", Parameter.POSITIONAL_OR_KEYWORD), Parameter("kwargs", Parameter.VAR_KEYWORD)
    room.__init__.__signature__ = Signature([first, *settings, last])


def hide_annotations(method: Callable[..., Any]) -> None:
    """Remove the type hints of a method before it is bound to an endpoint.

    Jina reads them as schemas of DocArray v2, and warns that it cannot read strings.
    """
    method.__annotations__.clear()


def replace_shutdown(shutdown: Callable[[GRPCServer], Awaitable[None]]) -> None:
    """Replace the shutdown of the gRPC servers in this process.

    Jina closes the executor while requests are in progress, and then breaks their connections.
    """
    own = wraps(GRPCServer.shutdown)(shutdown)
    GRPCServer.shutdown = own


async def stop_server(server: GRPCServer, seconds: float) -> None:
    """Shut down a gRPC server, but leave its request handler open.

    Args:
        server: server after `setup_server`.
        seconds: grace period for requests in progress. Requests that take longer are canceled.
    """
    await BaseServer.shutdown(server)
    await server.health_servicer.enter_graceful_shutdown()
    await server.server.stop(seconds)


async def close_handler(server: GRPCServer) -> None:
    """Close the executor behind a server."""
    await server._request_handler.close()


def wrap_process_data(wrap: Callable[[ProcessData], ProcessData]) -> None:
    """Wrap the method that answers each request of a room in this process.

    Jina has no hook before it reads the documents of a request, and it reads `docs_bytes` with pickle.
    """
    answer = WorkerRequestHandler.process_data
    WorkerRequestHandler.process_data = wraps(answer)(wrap(answer))


def answer_messages(takes: Answers, answer: Answer) -> None:
    """Let the rooms of this process answer requests without DocArray's documents, where they can.

    Jina turns each message into a Document and back, which takes longer than a small model. Its metrics stay. A traced
    request, and one that several requests have been merged into, take Jina's way.

    Args:
        takes: executor, endpoint and DocumentProtos -> whether `answer` answers them.
        answer: writes the results into the DocumentProtos. It gets the executor, the endpoint, the DocumentProtos and
            the parameters.
    """
    handle = WorkerRequestHandler.handle

    @wraps(handle)
    async def answered(
        handler: WorkerRequestHandler, requests: list[DataRequest], http: bool = False, tracing_context: Any = None
    ) -> DataRequest:
        message = requests[0].proto_with_data
        endpoint, documents, room = message.header.exec_endpoint, message.data.docs.docs, handler._executor
        if len(requests) > 1 or http or tracing_context is not None or not takes(room, endpoint, documents):
            return await handle(handler, requests, http=http, tracing_context=tracing_context)
        handler._record_request_size_monitoring(requests)
        given = requests[0].parameters if message.parameters.fields else {}
        await answer(room, endpoint, documents, handler._parse_params(given, room.metas.name))
        requests[0].add_executor(handler.deployment_name)
        handler._record_docs_processed_monitoring(requests, len(documents))
        handler._record_response_size_monitoring(requests)
        return requests[0]

    WorkerRequestHandler.handle = answered


def add_interceptor(interceptor: ServerInterceptor) -> None:
    """Add an interceptor to the gRPC servers that Jina makes in this process from now on.

    Jina takes interceptors only from its tracing. A room's executor is made just before the room's server.
    """
    own = GRPCServer.aio_tracing_server_interceptors
    GRPCServer.aio_tracing_server_interceptors = wraps(own)(lambda server: [interceptor, *(own(server) or [])])


def answers_beside(handler: WorkerRequestHandler, endpoint: str) -> bool:
    """Return whether a room answers an endpoint beside others: its method is a coroutine. The others take turns."""
    bound = handler._executor.requests.get(endpoint)
    return bound is None or iscoroutinefunction(bound.fn)


def replace_nbytes(count: Callable[[ProtoTypeMixin], int]) -> None:
    """Replace the size of a message, which Jina's metrics ask for.

    Jina serializes the whole message to count its bytes.
    """
    ProtoTypeMixin.nbytes = property(wraps(ProtoTypeMixin.nbytes.fget)(count))


def keep_environment() -> None:
    """Let Jina count the bytes of its messages without a change of this process's environment.

    It writes both sums into environment variables for each message. The C library looks through all variables each
    time, and never frees the old value.
    """
    serializer.os = SimpleNamespace(environ={})


def filter_log(admit: Callable[[LogRecord], bool]) -> None:
    """Drop the lines of every logger in this process that `admit` refuses.

    Jina, uvicorn and gRPC make loggers of their own, at times that they choose, and a filter is not inherited.
    """
    handle = Logger.handle

    @wraps(handle)
    def bounded(logger: Logger, record: LogRecord) -> None:
        if admit(record):
            handle(logger, record)

    Logger.handle = bounded  # type: ignore[assignment, method-assign]
