"""Base of all REST routes: bounded bodies of strict JSON, errors as `{"detail", "type"}`, and metrics."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Annotated, Any, get_type_hints

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from pydantic import ValidationError

from finetuner.contract.wire import MAX_CONTROL_BYTES, MAX_MESSAGE_BYTES
from finetuner.exceptions import InvalidInput

from ..flow.body import CONTENTS, CONTROL, Limits, parse_json, read_body
from ..flow.calls import MIDDLE, aside
from ..flow.failures import failure, outcome
from ..flow.rooms import Rooms
from .form import Failure

SHOWN_FAULTS = 3
JSON = "application/json"

Answered = Callable[[Request], Coroutine[Any, Any, Response]]

_FAILURES = {
    401: "No token, or an invalid one.",
    403: "The token's role does not allow it.",
    404: "The object does not exist, or no room of this Flow has the endpoint.",
    413: "The body is too large.",
    422: "A wrong value. `detail` names the expected value and the given one.",
    429: "A queue of the Flow is full, or the token has sent too many requests. Try again later.",
    500: "The Flow has failed. See its log.",
    503: "A room of the Flow is down.",
    504: "A room of the Flow was too slow.",
}


def failures(**more: str) -> dict[int | str, dict[str, Any]]:
    """Return the error responses for OpenAPI.

    Args:
        more: further statuses, such as `_409="..."`.
    """
    described = _FAILURES | {int(status[1:]): text for status, text in more.items()}
    return {status: {"model": Failure, "description": text} for status, text in sorted(described.items())}


class BoundedRequest(Request):
    """A request with a bounded body of strict JSON.

    Args:
        request: the original one.
        most: bytes that its body may have.
        limits: of its JSON.
    """

    def __init__(self, request: Request, most: int, limits: Limits) -> None:
        super().__init__(request.scope, request.receive)
        self._most = most
        self._limits = limits

    async def body(self) -> bytes:
        """Return the whole body."""
        if not hasattr(self, "_body"):
            self._body = await read_body(self, self._most)
        return self._body

    async def json(self) -> Any:
        """Return the JSON object in the body."""
        try:
            body = await self.body()
            value = await aside(len(body), partial(parse_json, body, self._limits))
        except InvalidInput as error:  # FastAPI passes only HTTPException on
            raise HTTPException(422, str(error)) from None
        if not isinstance(value, dict):  # pydantic 1 would accept a list of pairs
            raise HTTPException(422, f"The body must be an object. Got {type(value).__name__}.")
        return value


class RestRoute(APIRoute):
    """A route with a body of at most MAX_CONTROL_BYTES."""

    most_bytes = MAX_CONTROL_BYTES
    limits = CONTROL

    def get_route_handler(self) -> Answered:
        """Return the function that answers a request."""
        inner = self._short_way(super().get_route_handler())

        async def answered(request: Request) -> Response:
            handler = request.app.state.handler
            try:
                response = await inner(BoundedRequest(request, self.most_bytes, self.limits))
            except RequestValidationError as error:
                sentence = _of_header(request) if isinstance(error.body, bytes) else _sentence(error)
                response = failure(handler, self.path_format, InvalidInput(sentence))
            except Exception as error:
                response = failure(handler, self.path_format, error)
            handler.metrics.answered("http", self.path_format, outcome(response.status_code), known=True)
            return response

        return answered

    def _short_way(self, inner: Answered) -> Answered:
        """Return a function that answers short bodies of routes with a form and the rooms, leaving others to `inner`.

        FastAPI looks for the parts of a request anew each time, in several tasks. Whatever a form refuses goes to
        `inner` as well, which has the words for it.
        """
        hints = get_type_hints(self.endpoint)
        form: Any = hints.get("form")
        more = {"request": Request} if "request" in hints else {}
        if hints != {"form": form, "rooms": Rooms, "return": Response} | more:
            return inner

        async def answer(request: Request) -> Response:
            content = request.headers.get("content-type", "")
            if not content.startswith(JSON) or not 0 < len(await request.body()) <= MIDDLE:
                return await inner(request)
            try:
                read = form.parse_obj(await request.json())
            except ValidationError:
                return await inner(request)
            given = {"form": read, "rooms": request.app.state.rooms} | ({"request": request} if more else {})
            response: Response = await self.endpoint(**given)
            return response

        return answer


class DocumentsRoute(RestRoute):
    """A route whose body may hold documents."""

    most_bytes = MAX_MESSAGE_BYTES
    limits = CONTENTS


def router(tag: str, prefix: str = "", *, documents: bool = False) -> APIRouter:
    """Return a router of RestRoute.

    Args:
        tag: group of its routes in OpenAPI.
        prefix: of its paths.
        documents: whether bodies hold documents, so DocumentsRoute is used.
    """
    kind = DocumentsRoute if documents else RestRoute
    token = Depends(HTTPBearer(auto_error=False, description="A token of the Flow, if it has any."))
    return APIRouter(prefix=prefix, tags=[tag], route_class=kind, dependencies=[token])


async def _rooms(request: Request) -> Rooms:
    rooms: Rooms = request.app.state.rooms
    return rooms


RoomsOf = Annotated[Rooms, Depends(_rooms)]


def _of_header(request: Request) -> str:
    """Return the fault of a body that FastAPI has not read as JSON, because of its header."""
    return (
        f"Content-Type must be application/json. Got {request.headers.get('content-type', '')!r:.80}. "
        "Add the header `Content-Type: application/json`: curl sends another one by default."
    )


def _sentence(error: RequestValidationError) -> str:
    """Return the first SHOWN_FAULTS faults of a request, each in the form of our error messages."""
    return " ".join(_fault(fault, error.body) for fault in error.errors()[:SHOWN_FAULTS])


def _fault(fault: dict[str, Any], body: Any) -> str:
    source, *path = fault["loc"]
    whole = "__root__" in path  # pydantic's name for a check of several fields
    path = [each for each in path if each != "__root__"]
    where = "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in path).lstrip(".") or source
    match fault["type"]:
        case "value_error.missing":
            return f"{where} is required. Got none. Add it."
        case "value_error.extra":
            return f"{where} is not a field of this request. Leave it out."
    reason = str(fault["msg"]).rstrip(".")
    for theirs, ours in (("ensure this value has", "must have"), ("ensure this value is", "must be")):
        reason = reason.replace(theirs, ours)
    sentence = f"{where} {reason}." if reason.startswith("must ") else f"{where}: {reason}."
    found = body
    for each in path:
        try:
            found = found[each]
        except (TypeError, KeyError, IndexError):  # a parameter, or a union of types
            return sentence
    return sentence if whole or source != "body" else f"{sentence} Got {found!r:.60}."
