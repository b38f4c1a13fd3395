"""One test per seam of `executors.room.jina_internals`: Jina still has the part, and the change is still needed."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import pickle
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest
from docarray import Document, DocumentArray
from jina import Executor
from jina.jaml.parsers.executor.legacy import ExecutorLegacyParser
from jina.proto import serializer
from jina.serve.executors import _FunctionWithSchema
from jina.serve.runtimes.servers.grpc import GRPCServer
from jina.serve.runtimes.worker.request_handling import WorkerRequestHandler
from jina.types.mixin import ProtoTypeMixin
from jina.types.request.data import DataRequest

from finetuner.contract.wire import ERROR_METADATA
from finetuner.executors.room import drain, jina_internals, messages
from finetuner.executors.room.room import Room
from finetuner.executors.text_encoder.executor import TextEncoder


@pytest.fixture(autouse=True)
def jinas_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jina as it is installed, whatever other tests have replaced; and again after the test."""
    monkeypatch.setattr(GRPCServer, "shutdown", inspect.unwrap(GRPCServer.shutdown))
    own = inspect.unwrap(GRPCServer.aio_tracing_server_interceptors)
    monkeypatch.setattr(GRPCServer, "aio_tracing_server_interceptors", own)
    monkeypatch.setattr(WorkerRequestHandler, "process_data", inspect.unwrap(WorkerRequestHandler.process_data))
    monkeypatch.setattr(WorkerRequestHandler, "handle", inspect.unwrap(WorkerRequestHandler.handle))
    monkeypatch.setattr(logging.Logger, "handle", inspect.unwrap(logging.Logger.handle))
    monkeypatch.setattr(serializer, "os", os)
    monkeypatch.setattr(ProtoTypeMixin, "nbytes", property(inspect.unwrap(ProtoTypeMixin.nbytes.fget)))


def test_jina_passes_these_arguments_beside_the_settings() -> None:
    expected = {"metas", "requests", "runtime_args", "workspace", "dynamic_batching"}
    assert expected == jina_internals.EXECUTOR_ARGUMENTS
    source = inspect.getsource(ExecutorLegacyParser.parse)
    assert all(f"{name}=" in source for name in expected - {"workspace"})


def test_jina_passes_a_shard_id_to_the_executors_that_it_serves(tmp_path: Path) -> None:
    assert "'shard_id': self.args.shard_id" in inspect.getsource(WorkerRequestHandler._load_executor)
    room = Room(workspace_url=str(tmp_path))
    assert not jina_internals.is_served(room)
    room.runtime_args.shard_id = 0
    assert jina_internals.is_served(room)


def test_jina_warns_about_settings_that_no_signature_names() -> None:
    class Unnamed(Executor):  # type: ignore[misc]  # jina is not typed
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)

    assert "backbone" not in ExecutorLegacyParser._get_all_arguments(Unnamed)
    assert {"backbone", "batch_size", "workspace_url"} <= ExecutorLegacyParser._get_all_arguments(TextEncoder)


def test_jina_takes_type_hints_for_schemas() -> None:
    def method(self: Any, docs: DocumentArray, **_: Any) -> None: ...

    with pytest.warns(UserWarning, match="annotation must be a type hint"):
        _FunctionWithSchema.get_function_with_schema(method)
    jina_internals.hide_annotations(method)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _FunctionWithSchema.get_function_with_schema(method)


class Server(GRPCServer):  # type: ignore[misc]  # jina is not typed
    """A server that records the steps of its shutdown."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.logger = SimpleNamespace(debug=lambda _: None)
        self.health_servicer = SimpleNamespace(enter_graceful_shutdown=self._step("not serving"))
        self._request_handler = SimpleNamespace(close=self._step("executor closed"))
        self.server = SimpleNamespace(stop=self._step("requests finished"))

    def _step(self, name: str) -> Any:
        async def step(*arguments: float, **options: float | None) -> None:
            self.steps.append(" ".join([name, *map(str, arguments), *map(str, options.values())]))

        return step

    def _teardown_instrumentation(self) -> None:
        self.steps.append("instruments closed")


def test_jina_closes_the_executor_before_its_requests_are_finished() -> None:
    server = Server()
    asyncio.run(server.shutdown())
    assert server.steps == ["instruments closed", "not serving", "executor closed", "requests finished None"]

    server = Server()
    jina_internals.replace_shutdown(drain._shutdown)
    asyncio.run(server.shutdown())
    assert server.steps == ["instruments closed", "not serving", "requests finished 6.0", "executor closed"]


@pytest.fixture
def with_pickle() -> DataRequest:
    request = DataRequest()
    request.data.docs_bytes = DocumentArray([Document(text="a")]).to_bytes(protocol="pickle-array", compress=None)
    return request


@pytest.fixture
def unpickled(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Everything that DocArray unpickles during the test."""
    loads = pickle.loads
    found: list[bytes] = []

    def spy(content: bytes, *args: Any, **kwargs: Any) -> Any:
        found.append(content)
        return loads(content, *args, **kwargs)

    monkeypatch.setattr(pickle, "loads", spy)
    return found


def test_jina_unpickles_documents(with_pickle: DataRequest, unpickled: list[bytes]) -> None:
    assert with_pickle.docs[0].text == "a"
    assert len(unpickled) == 1


def test_a_room_refuses_pickles_before_it_reads_them(with_pickle: DataRequest, unpickled: list[bytes]) -> None:
    parameters = inspect.signature(WorkerRequestHandler.process_data).parameters
    assert list(parameters) == ["self", "requests", "context", "http", "is_generator"]
    answered: list[Any] = []

    async def answer(handler: Any, requests: list[DataRequest], context: Any, **options: Any) -> DataRequest:
        answered.append(options)
        return requests[0]

    class Aborted(Exception):
        pass

    class Context:
        async def abort(self, code: grpc.StatusCode, text: str, metadata: tuple[tuple[str, str], ...]) -> None:
            assert code == grpc.StatusCode.INVALID_ARGUMENT
            assert metadata == ((ERROR_METADATA, "InvalidInput"),)
            raise Aborted(text)

    WorkerRequestHandler.process_data = answer
    jina_internals.wrap_process_data(messages._checked)
    handler = object.__new__(WorkerRequestHandler)
    handler._executor = SimpleNamespace(requests={})
    with pytest.raises(Aborted, match="Got `docs_bytes`, which holds a pickle"):
        asyncio.run(handler.process_data([with_pickle], Context()))
    assert not answered
    assert not unpickled
    request = DataRequest()
    request.data.docs = DocumentArray([Document(text="b")])
    assert asyncio.run(handler.process_data([request], Context(), http=True)) is request
    assert answered == [{"http": True}]


def test_turns_are_kept_when_a_caller_leaves() -> None:
    """Jina would answer the next request beside the thread of a request whose caller has left."""
    assert "iscoroutinefunction(func)" in inspect.getsource(Executor.__acall_endpoint__)
    assert "run_in_executor" in inspect.getsource(Executor.__acall_endpoint__)
    log: list[str] = []

    async def check() -> None:
        ended, started = asyncio.Event(), asyncio.Event()

        async def answer(_: Any, requests: list[DataRequest], *__: Any) -> DataRequest:
            name = requests[0].header.request_id
            log.append(name)
            started.set()
            await ended.wait()
            log.append(f"{name} ended")
            return requests[0]

        def asked(name: str) -> asyncio.Task[DataRequest]:
            request = DataRequest()
            request.header.request_id, request.header.exec_endpoint = name, "/status"
            return asyncio.create_task(checked(handler, [request], None))

        checked = messages._checked(answer)
        handler = SimpleNamespace(_executor=SimpleNamespace(requests={"/status": SimpleNamespace(fn=print)}))
        leaves, goes, stays = asked("leaves"), asked("goes"), asked("stays")
        await started.wait()
        leaves.cancel()
        goes.cancel()
        await asyncio.sleep(0)
        ended.set()
        await stays
        assert leaves.cancelled()
        assert goes.cancelled()

    asyncio.run(check())
    assert log == ["leaves", "leaves ended", "stays", "stays ended"]


def test_jina_serializes_a_message_to_count_its_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    serialized: list[Any] = []
    to_bytes = ProtoTypeMixin.to_bytes

    def spy(message: ProtoTypeMixin) -> bytes:
        serialized.append(message)
        return to_bytes(message)

    monkeypatch.setattr(ProtoTypeMixin, "__bytes__", spy)
    request = DataRequest()
    request.data.docs = DocumentArray([Document(text="a")])
    size = request.nbytes
    assert len(serialized) == 1
    jina_internals.replace_nbytes(lambda message: int(message.proto.ByteSize()))
    assert request.nbytes == size > 0
    assert len(serialized) == 1


def test_jina_counts_bytes_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("JINA_GRPC_RECV_BYTES", "JINA_GRPC_SEND_BYTES")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    proto = serializer.DataRequestProto
    assert proto.FromString(proto.SerializeToString(DataRequest())).request_id
    assert all(int(os.environ.pop(name)) > 0 for name in names)
    jina_internals.keep_environment()
    assert proto.FromString(proto.SerializeToString(DataRequest())).request_id
    assert not os.environ.keys() & {*names}


def test_jina_turns_each_message_into_a_document_and_back() -> None:
    source = inspect.getsource(WorkerRequestHandler.handle)
    assert "get_docs_from_request" in source
    assert "_set_result" in source
    answered: list[Any] = []

    async def by_jina(*_: Any, **options: Any) -> str:
        return f"by Jina, {sorted(options)}"

    async def answer(room: Any, endpoint: str, messages: Any, parameters: dict[str, Any]) -> None:
        answered.append((endpoint, [message.text for message in messages], parameters))

    WorkerRequestHandler.handle = by_jina
    jina_internals.answer_messages(lambda room, endpoint, messages: endpoint == "/encode", answer)
    handler = object.__new__(WorkerRequestHandler)
    handler._executor, handler.args = SimpleNamespace(metas=SimpleNamespace(name="room")), SimpleNamespace(name="a")
    for measure in ("_request_size", "_document_processed", "_sent_response_size"):
        metrics, histogram = f"{measure}_metrics", f"{measure}_histogram"
        assert metrics in inspect.getsource(WorkerRequestHandler)
        setattr(handler, metrics, None)
        setattr(handler, histogram, None)
    handler._document_processed_counter = None
    handler.deployment_name = "a"
    request = DataRequest()
    request.data.docs = DocumentArray([Document(text="b")])
    request.header.exec_endpoint, request.parameters = "/encode", {"room": {"limit": 1}, "limit": 2}
    assert asyncio.run(handler.handle([request])) is request
    assert answered == [("/encode", ["b"], {"room": {"limit": 1}, "limit": 1})]
    assert [route.executor for route in request.routes] == ["a"]
    assert asyncio.run(handler.handle([request], tracing_context=object())) == "by Jina, ['http', 'tracing_context']"
    assert asyncio.run(handler.handle([request, request])).startswith("by Jina")
    request.header.exec_endpoint = "/index"
    assert asyncio.run(handler.handle([request])).startswith("by Jina")


def test_jina_takes_interceptors_only_from_its_tracing() -> None:
    server = SimpleNamespace(tracing=False)
    assert GRPCServer.aio_tracing_server_interceptors(server) is None
    interceptor = grpc.aio.ServerInterceptor
    jina_internals.add_interceptor(interceptor)
    assert GRPCServer.aio_tracing_server_interceptors(server) == [interceptor]
    source = inspect.getsource(GRPCServer.__init__)
    assert source.index("super().__init__") < source.index("aio_tracing_server_interceptors()"), "after the executor"


def test_a_filter_of_the_log_holds_for_every_logger(caplog: pytest.LogCaptureFixture) -> None:
    filters: list[logging.LogRecord] = []
    logging.getLogger("tests.parent").addFilter(lambda record: filters.append(record) is None)
    logging.getLogger("tests.parent.child").error("one")
    assert not filters, "a filter is inherited: ours may be one of the root logger"
    jina_internals.filter_log(lambda record: "bad" not in record.getMessage())
    for name in ("tests.parent.child", "tests.made_later"):
        logging.getLogger(name).error("good")
        logging.getLogger(name).error("bad")
    assert [record.getMessage() for record in caplog.records] == ["one", "good", "good"]
