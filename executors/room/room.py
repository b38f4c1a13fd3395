"""What every room has: the workspace, its metrics, and one way to answer and to fail."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any, TypeVar, cast

from docarray import Document, DocumentArray
from jina import Executor, requests
from prometheus_client import CollectorRegistry, Counter, Histogram

from executors.room.collector import freeze_modules
from executors.room.drain import finish_requests
from executors.room.lifeline import end_with_parent
from executors.room.messages import guard_room, weigh_unwritten
from finetuner.contract.parameters import Parameters
from finetuner.contract.wire import INDEX, SEARCH, mark_error, reply
from finetuner.exceptions import FinetunerError, FinetunerServerError, InvalidInput
from finetuner.workspace.folder import Workspace

Method = TypeVar("Method", bound=Callable[..., Any])

# Every room of a chain gets the same parameters: what the encoders read is no mistake where they come first.
ENCODER_PARAMETERS = ("artifact", "model_name", "drop_image_content")
AFTER_ENCODERS = (INDEX, SEARCH)

SECONDS = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class MeasuredExecutor(Executor):  # type: ignore[misc]  # jina is not typed
    """Base of our executors: counts and times what it answers, and ends with the Flow that started it."""

    def __init__(self, **kwargs: Any) -> None:
        refuse_unknown(type(self), kwargs, set(signature(Executor).parameters))
        super().__init__(**kwargs)
        end_with_parent()
        if hasattr(self.runtime_args, "shard_id"):  # Jina serves it; else it is an object in another process
            freeze_modules()
            finish_requests()
            guard_room()
            weigh_unwritten()
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

    @contextmanager
    def measured(self, endpoint: str) -> Iterator[None]:
        """Count and time one request, as failed where the block raises."""
        started, outcome = time.perf_counter(), "error"
        try:
            yield
            outcome = "ok"
        finally:
            self._request_seconds.labels(endpoint).observe(time.perf_counter() - started)
            self._request_count.labels(endpoint, outcome).inc()

    def count_documents(self, endpoint: str, answered: int, refused: int) -> None:
        """Count the documents of one request."""
        self._document_count.labels(endpoint, "ok").inc(answered)
        self._document_count.labels(endpoint, "error").inc(refused)

    def failed(self, endpoint: str, error: Exception) -> Exception:
        """Return the error for the caller; what we did not raise on purpose goes to the log, whole."""
        if isinstance(error, FinetunerError):
            return error
        self.logger.error(f"{endpoint} failed", exc_info=error)  # JinaLogger has no exception()
        return FinetunerServerError(f"{endpoint} failed in {type(self).__name__}: {error!r}. See its log.")


def refuse_unknown(room: type, given: Iterable[str], others: Iterable[str]) -> None:
    """Refuse settings that a room does not have; Jina would take them and say nothing.

    Args:
        room: the class that gets them.
        given: names from `uses_with`.
        others: names that Jina adds.

    Raises:
        InvalidInput: with the settings that there are.
    """
    known = settings_of(room)
    if unknown := sorted(set(given) - known - set(others)):
        raise InvalidInput(
            f"uses_with of {room.__name__} must be of {', '.join(sorted(known))}. Got {', '.join(unknown)}. Correct "
            "the Flow's YAML, or what was given by --set."
        )


def settings_of(room: type) -> set[str]:
    """Return the names that a room's own constructors take."""
    own = [
        vars(each)["__init__"]
        for each in room.__mro__
        if each.__module__.startswith("executors.") and "__init__" in vars(each)
    ]
    taken = [each for constructor in own for each in signature(constructor).parameters.values()]
    return {each.name for each in taken if each.kind is each.POSITIONAL_OR_KEYWORD} - {"self"}


class Room(MeasuredExecutor):
    """An executor of our Flow.

    Args:
        workspace_url: folder (or file:// URL) that all rooms of a Flow share.
    """

    def __init__(self, workspace_url: str = "workspace", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.shared_workspace = Workspace(workspace_url)


def bound(*endpoints: str) -> Callable[[Method], Method]:
    """Bind a method to endpoints; Jina's own decorator, with a type."""

    def decorate(method: Method) -> Method:
        method.__annotations__.clear()  # Jina takes them for DocArray v2 schemas and warns that it cannot read ours
        return cast("Method", requests(on=list(endpoints))(method))

    return decorate


def control(endpoint: str, *names: str, beside: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """Bind a method to an endpoint that answers with one JSON document.

    The method takes the checked parameters and the request's documents, and returns what JSON can hold, or
    documents, which are sent as they are. What it raises becomes the error tag of the answer.

    Args:
        endpoint: path such as '/runs/get'.
        names: the parameters that it reads.
        beside: whether other requests are answered meanwhile; otherwise they take turns.
    """
    read = dict.fromkeys((*names, *ENCODER_PARAMETERS)) if endpoint in AFTER_ENCODERS else names

    def decorate(method: Callable[..., Any]) -> Any:
        def answer(
            self: Room, docs: DocumentArray | None = None, parameters: dict[str, Any] | None = None, **_: Any
        ) -> DocumentArray:
            try:
                with self.measured(endpoint):
                    value = method(self, Parameters(parameters, tuple(read)), docs or DocumentArray())
                    return value if isinstance(value, DocumentArray) else DocumentArray([reply(value)])
            except Exception as error:
                return DocumentArray([mark_error(Document(), self.failed(endpoint, error))])

        async def answer_beside(
            self: Room, docs: DocumentArray | None = None, parameters: dict[str, Any] | None = None, **_: Any
        ) -> DocumentArray:
            return await asyncio.to_thread(answer, self, docs, parameters)

        chosen = answer_beside if beside else answer
        chosen.__name__, chosen.__doc__ = method.__name__, method.__doc__
        return bound(endpoint)(chosen)

    return decorate
