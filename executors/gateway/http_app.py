"""The HTTP side: the REST API, every endpoint of the Flow as POST with JSON, the hub, the web page, and health."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from jina.types.request.data import DataRequest
from starlette.exceptions import HTTPException
from starlette.routing import Match

from finetuner.contract.wire import CONTRACT, CONTRACT_FIELD, TITLE
from finetuner.version import __version__

from .access import roles
from .access.access import Access, Entry
from .access.http_check import Bounded, HttpCheck
from .flow.body import read_body
from .flow.calls import aside
from .flow.clip_client import read_path
from .flow.documents import read_request, response_status, write_response
from .flow.failures import failure, outcome
from .flow.handler import Handler
from .flow.health import TIMEOUT, Health
from .flow.rooms import Rooms
from .forms import FLOW_REQUEST, DryRun, FlowAnswer, HealthState
from .hub.hub import hub_routes
from .pages import page_routes
from .rest import mount
from .rest.route import failures

ANY_PATH = "/{endpoint:path}"


def build_app(
    handler: Handler, access: Access, health_timeout: float = TIMEOUT, ready: Callable[[], bool] = lambda: True
) -> FastAPI:
    """Return the app that reaches the rooms through `handler`. `/healthz` is 503 until the gateway is ready."""
    rooms = Rooms(handler)
    # No /docs: FastAPI's page loads its scripts from another server.
    app = FastAPI(
        title=TITLE,
        version=__version__,
        description=__doc__,
        docs_url=None,
        redoc_url=None,
        responses=failures(),
    )
    described = app.openapi
    app.openapi = lambda: _with_contract(described())  # type: ignore[method-assign]
    app.add_middleware(Bounded)
    app.add_middleware(HttpCheck, access=access, metrics=handler.metrics)  # the last one added runs first
    _answer_errors(app, handler)
    health = Health(rooms.ask, rooms.states, health_timeout, rooms.problems, ready)

    @app.get(
        "/healthz",
        summary="Check health: encode a canary text and image",
        response_model=HealthState,
        responses={503: {"model": HealthState, "description": "An encoder does not encode, or the Flow is starting."}},
    )
    async def healthz() -> JSONResponse:
        state = await health.check()
        for encoder, found in state["encoders"].items():
            handler.metrics.canary.labels(encoder).set("error" not in found)
        return JSONResponse(state, 503 if state["status"] == "unavailable" else 200)

    @app.get("/dry_run", summary="Send an empty document through every room, for jina.Client.is_flow_ready")
    async def dry_run() -> DryRun:
        status = await handler.dry_run(None, None)
        return DryRun(code=status.code, description=status.description)

    app.include_router(page_routes())
    app.include_router(hub_routes(handler, rooms, access))
    mount(app, handler, rooms)

    @app.post(
        ANY_PATH,
        summary="Send documents to an endpoint of the Flow",
        response_model=FlowAnswer,
        openapi_extra={"requestBody": {"content": {"application/json": {"schema": FLOW_REQUEST}}}},
    )
    async def post(endpoint: str, request: Request) -> Response:
        path = f"/{endpoint}"
        try:
            asked = await _read(request, path)
            read_path(asked)
            path = asked.header.exec_endpoint
            _require(request.state.entry, path, asked)
            await rooms.require(path)
            response = await rooms.ask(asked)
            answer = await aside(response.proto_with_data.ByteSize(), partial(write_response, response))
        except Exception as error:
            refusal = failure(handler, path, error)
            handler.metrics.answered("http", path, outcome(refusal.status_code))
            return refusal
        status = response_status(response)
        handler.metrics.answered("http", path, outcome(status))
        # jina.Client sends to /post, and drops an answer with another status
        return Response(answer, 200 if endpoint == "post" else status, media_type="application/json")

    return app


def _with_contract(description: dict[str, Any]) -> dict[str, Any]:
    """Return an OpenAPI description with the version of the wire contract, which `login` reads."""
    description["info"][CONTRACT_FIELD] = CONTRACT
    return description


async def _read(request: Request, path: str) -> DataRequest:
    """Return the request that a body describes. The body is not kept while the rooms answer."""
    body = await read_body(request)
    return await aside(len(body), partial(read_request, body, path))


def _require(entry: Entry, endpoint: str, asked: DataRequest) -> None:
    """Refuse an endpoint beyond the caller's role. For /post, only the body names the endpoint."""
    entry.endpoint, entry.documents = endpoint, len(asked.proto_with_data.data.docs.docs)
    entry.require(roles.of_endpoint(endpoint), endpoint)


def _is_known(request: Request) -> bool:
    """Return whether a path is one of ours, so that another method would be answered. `post` takes any path."""
    routes = [route for route in request.app.routes if getattr(route, "path", "") != ANY_PATH]
    return request.url.path in roles.ENDPOINTS or any(
        route.matches(request.scope)[0] is not Match.NONE for route in routes
    )


def _answer_errors(app: FastAPI, handler: Handler) -> None:
    """Give the errors of the router itself, and unexpected ones, the same JSON body as all others."""

    async def answer(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException) and error.detail == HTTPStatus(error.status_code).phrase:
            unknown = error.status_code == 405 and not _is_known(request)
            detail = f"No route takes {request.method} {request.url.path!r:.200}. See /docs."
            error = HTTPException(404 if unknown else error.status_code, detail, None if unknown else error.headers)
        return failure(handler, request.url.path, error)

    app.add_exception_handler(HTTPException, answer)
    app.add_exception_handler(Exception, answer)
