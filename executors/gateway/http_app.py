"""The HTTP side: every endpoint of the Flow as POST with JSON, the hub, and health."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from jina.excepts import InternalNetworkError

from finetuner.exceptions import FinetunerServerError, InvalidInput
from finetuner.wire import MAX_MESSAGE_BYTES

from .access import HttpCheck, Token
from .clip_client import read_path
from .documents import read_request, response_status, write_response
from .handler import Handler
from .health import TIMEOUT, Health
from .hub import hub_routes
from .rooms import Rooms


def build_app(handler: Handler, token: Token, health_timeout: float = TIMEOUT) -> FastAPI:
    """Return the app that reaches the rooms through `handler`."""
    rooms = Rooms(handler)
    # No /docs: FastAPI's page loads its scripts from a foreign server.
    app = FastAPI(title="Open Finetuner", docs_url=None, redoc_url=None)
    app.add_middleware(HttpCheck, token=token, measures=handler.measures)
    health = Health(rooms.ask, rooms.states, health_timeout)

    @app.get("/healthz", summary="Encode a canary text and picture")
    async def healthz() -> JSONResponse:
        state = await health.check()
        return JSONResponse(state, 503 if state["status"] == "unavailable" else 200)

    @app.get("/dry_run", summary="Send an empty document through every room; jina.Client.is_flow_ready asks")
    async def dry_run() -> dict[str, Any]:
        status = await handler.dry_run(None, None)
        return {"code": status.code, "description": status.description}

    app.include_router(hub_routes(handler, rooms))

    @app.post("/{endpoint:path}", summary="Send documents to an endpoint of the Flow")
    async def post(endpoint: str, request: Request) -> Response:
        path = f"/{endpoint}"
        try:
            asked = await asyncio.to_thread(read_request, await _body(request), path)
            read_path(asked)
            path = asked.header.exec_endpoint
            await _check_endpoint(handler, path)
            response = await rooms.ask(asked)
            answer = await asyncio.to_thread(write_response, response)
        except Exception as error:
            raise _answer(handler, path, error) from error
        status = response_status(response)
        handler.measures.answered("http", path, _outcome(status))
        # jina.Client, which sends to /post, would throw an answer with another status away
        return Response(answer, 200 if endpoint == "post" else status, media_type="application/json")

    return app


async def _body(request: Request) -> bytes:
    """Return the body, without ever holding more of it than may be sent."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_MESSAGE_BYTES:
            raise HTTPException(
                413,
                f"A body may have {MAX_MESSAGE_BYTES} bytes. Got more. Send fewer documents in a request.",
                headers={"Connection": "close"},  # the rest of the body is not read
            )
    return bytes(body)


async def _check_endpoint(handler: Handler, path: str) -> None:
    """Refuse a path that no room knows: Jina would skip every room and send the documents back as they came."""
    try:
        found = await asyncio.wait_for(handler.endpoint_discovery(), TIMEOUT)
    except (TimeoutError, InternalNetworkError):
        raise FinetunerServerError("a room of the Flow does not say its endpoints", "is it up?", 503) from None
    known = sorted(name for name in found.endpoints if name.startswith("/"))
    if path not in known:
        raise HTTPException(404, f"No room of this Flow has the endpoint {path!r}. It has: {', '.join(known)}.")


def _answer(handler: Handler, path: str, error: Exception) -> HTTPException:
    """Return what the caller gets for `error`, and count it; what we did not expect goes to the log, whole."""
    answer: HTTPException
    match error:
        case HTTPException():
            answer = error
        case InvalidInput():
            answer = HTTPException(422, str(error))
        case FinetunerServerError():
            answer = HTTPException(error.code, str(error))
        case _:
            handler.logger.error(f"{path} failed in the gateway", exc_info=error)
            answer = HTTPException(500, f"{path} failed in the gateway: {error!r}. See its log.")
    handler.measures.answered("http", path, _outcome(answer.status_code))
    return answer


def _outcome(status: int) -> str:
    if status < 400:
        return "ok"
    return "refused" if status < 500 else "failed"
