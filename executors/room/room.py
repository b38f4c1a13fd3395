"""Base classes of our executors: settings, workspace, metrics, and one way to answer and to fail."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar, cast

from docarray import Document, DocumentArray
from jina import Executor, requests
from prometheus_client import CollectorRegistry, Counter, Histogram

from finetuner.contract.dimensions import refuse_dimensions
from finetuner.contract.parameters import Parameters
from finetuner.contract.wire import INDEX, PROBLEMS, ROOM, SEARCH, mark_error, reply
from finetuner.database.url import database_url
from finetuner.exceptions import FinetunerError, FinetunerServerError
from finetuner.executors.room.collector import freeze_modules, keep_trimmed
from finetuner.executors.room.description import describe, keep_lines
from finetuner.executors.room.drain import finish_requests
from finetuner.executors.room.jina_internals import (
    EXECUTOR_ARGUMENTS,
    answer_messages,
    hide_annotations,
    is_served,
    name_settings,
)
from finetuner.executors.room.lifeline import end_with_parent
from finetuner.executors.room.log_bounds import bound_log
from finetuner.executors.room.messages import count_without_serializing, guard_room
from finetuner.executors.room.secret import require_secret
from finetuner.executors.room.settings import RoomSettings, default_settings, read_settings
from finetuner.workspace.datasets import Datasets
from finetuner.workspace.folder import Workspace, keep_files_private
from finetuner.workspace.tokens import TokenFile

Method = TypeVar("Method", bound=Callable[..., Any])

# Every room of a chain gets the same parameters, so rooms after the encoders accept the encoders' parameters.
ENCODER_PARAMETERS = ("artifact", "model_name", "drop_image_content")
AFTER_ENCODERS = (INDEX, SEARCH)

SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class MeasuredExecutor(Executor):  # type: ignore[misc]  # jina is not typed
    """Base of our executors: reads its settings, measures its requests, and ends with the Flow that started it.

    Args:
        kwargs: the settings, and Jina's own arguments.

    Raises:
        InvalidInput: an unknown setting, or a value that is not allowed.
    """

    settings: Any
    """A frozen dataclass; each subclass annotates its own, see `finetuner.executors.room.settings`."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "settings" in vars(cls).get("__annotations__", {}):
            name_settings(cls, default_settings(cls))

    def __init__(self, **kwargs: Any) -> None:
        jinas = {name: kwargs.pop(name) for name in EXECUTOR_ARGUMENTS & kwargs.keys()}
        self.settings = read_settings(type(self), kwargs)
        super().__init__(**jinas)
        end_with_parent()
        if is_served(self):
            keep_lines()
            bound_log()
            freeze_modules()
            keep_trimmed()
            finish_requests()
            guard_room()
            count_without_serializing()
            answer_without_documents()
        registry = getattr(self.runtime_args, "metrics_registry", None)
        self.registry: CollectorRegistry = registry if registry is not None else CollectorRegistry()
        self._request_count = Counter(
            "finetuner_requests",
            "Requests by endpoint and outcome",
            ["endpoint", "outcome"],
            registry=self.registry,
        )
        self._document_count = Counter(
            "finetuner_documents",
            "Documents by endpoint and outcome",
            ["endpoint", "outcome"],
            registry=self.registry,
        )
        self._request_seconds = Histogram(
            "finetuner_request_seconds",
            "Time in the room per request",
            ["endpoint"],
            buckets=SECONDS,
            registry=self.registry,
        )
        # `labels` checks and joins its values at every call
        self._counted = cache(lambda endpoint, outcome: self._request_count.labels(endpoint, outcome))
        self._answered = cache(lambda endpoint, outcome: self._document_count.labels(endpoint, outcome))
        self._timed = cache(lambda endpoint: self._request_seconds.labels(endpoint))

    def takes_messages(self, endpoint: str, messages: Sequence[Any]) -> bool:
        """Return whether `answer_messages` answers these DocumentProtos, which saves their conversion to Documents."""
        return False

    async def answer_messages(self, endpoint: str, messages: Sequence[Any], parameters: dict[str, Any]) -> None:
        """Write the answer to a request into its DocumentProtos."""
        raise NotImplementedError

    @contextmanager
    def measured(self, endpoint: str) -> Iterator[None]:
        """Count and time one request. It counts as an error if the block raises."""
        started, outcome = time.perf_counter(), "error"
        try:
            yield
            outcome = "ok"
        finally:
            self._timed(endpoint).observe(time.perf_counter() - started)
            self._counted(endpoint, outcome).inc()

    def count_documents(self, endpoint: str, answered: int, refused: int) -> None:
        """Count the documents of one request: `answered` with a result, `refused` with an error."""
        self._answered(endpoint, "ok").inc(answered)
        self._answered(endpoint, "error").inc(refused)

    def failed(self, endpoint: str, error: Exception) -> Exception:
        """Return the error for the caller. An unexpected error is logged with its traceback."""
        if isinstance(error, FinetunerError):
            return error
        self.logger.error(f"{endpoint} failed", exc_info=error)  # JinaLogger has no exception()
        return FinetunerServerError(f"{endpoint} failed in {type(self).__name__}: {error!r}. See its log.")


@cache
def answer_without_documents() -> None:
    """Let the executor that Jina serves in this process answer requests without DocArray's documents."""

    def takes(executor: Any, endpoint: str, messages: Sequence[Any]) -> bool:
        return isinstance(executor, MeasuredExecutor) and executor.takes_messages(endpoint, messages)

    answer_messages(takes, lambda executor, *request: executor.answer_messages(*request))


def bound(*endpoints: str) -> Callable[[Method], Method]:
    """Bind a method to endpoints. This is Jina's `requests` with types."""

    def decorate(method: Method) -> Method:
        hide_annotations(method)
        return cast("Method", requests(on=list(endpoints))(method))

    return decorate


def control(endpoint: str, *names: str, beside: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """Bind a method to an endpoint that answers with one JSON document.

    The method takes the checked parameters and the request's documents. It returns a JSON value, or documents, which
    are sent unchanged. An exception becomes the error tag of the answer.

    Args:
        endpoint: path such as '/runs/get'.
        names: the parameters that the method reads.
        beside: whether the method runs in a thread beside other requests; otherwise requests take turns.
    """
    read = dict.fromkeys((*names, *ENCODER_PARAMETERS)) if endpoint in AFTER_ENCODERS else names

    def decorate(method: Callable[..., Any]) -> Any:
        def answer(
            self: MeasuredExecutor,
            docs: DocumentArray | None = None,
            parameters: dict[str, Any] | None = None,
            **_: Any,
        ) -> DocumentArray:
            try:
                with self.measured(endpoint):
                    refuse_dimensions(endpoint, parameters or {})
                    value = method(self, Parameters(parameters, tuple(read)), docs or DocumentArray())
                    return value if isinstance(value, DocumentArray) else DocumentArray([reply(value)])
            except Exception as error:
                return DocumentArray([mark_error(Document(), self.failed(endpoint, error))])

        async def answer_beside(
            self: MeasuredExecutor,
            docs: DocumentArray | None = None,
            parameters: dict[str, Any] | None = None,
            **_: Any,
        ) -> DocumentArray:
            return await asyncio.to_thread(answer, self, docs, parameters)

        chosen = answer_beside if beside else answer
        chosen.__name__, chosen.__doc__ = method.__name__, method.__doc__
        return bound(endpoint)(chosen)

    return decorate


class Room(MeasuredExecutor):
    """An executor of our Flow, with the Flow's workspace.

    Args:
        kwargs: the settings, and Jina's own arguments.
    """

    settings: RoomSettings

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shared_workspace = Workspace(self.settings.workspace_url)
        """`workspace` is a property of Jina's Executor."""
        if is_served(self):
            keep_files_private()
            self.shared_workspace.claim()
            require_secret(self.shared_workspace.root)

    def problems(self) -> list[str]:
        """Return one sentence for each part of the workspace that is damaged and set aside."""
        workspace = self.shared_workspace
        # a database's damaged tokens are in the gateway's log
        tokens = [] if database_url() else TokenFile(workspace.root).problems()
        return [*workspace.aliases.problems(), *Datasets(workspace).problems(), *tokens]

    @control(PROBLEMS, beside=True)
    def list_problems(self, _parameters: Parameters, _docs: DocumentArray) -> list[str]:
        """Return all problems, for health checks."""
        return self.problems()

    @control(ROOM, beside=True)
    def describe_room(self, _parameters: Parameters, _docs: DocumentArray) -> dict[str, Any]:
        """Describe this room for administrators; see `describe`."""
        return describe(self.settings)
