"""Routes that send an artifact as a zip, and take one."""

from __future__ import annotations

from typing import Annotated

from fastapi import HTTPException, Path, Request, Response

from finetuner.artifacts.manifest import MAX_TOTAL_BYTES
from finetuner.exceptions import InvalidInput

from ..rest.answers import answer
from ..rest.route import RoomsOf, failures, router
from .artifact_zip import ZIP, find_zip, take_zip

KINDS = (ZIP, "application/x-zip-compressed", "application/octet-stream")
CONTENT = {"schema": {"type": "string", "format": "binary"}}

routes = router("artifacts", "/v1/artifacts")


@routes.head("/{artifact}/zip", include_in_schema=False)
@routes.get(
    "/{artifact}/zip",
    summary="An artifact as a zip",
    response_class=Response,
    responses={200: {"description": "The zip.", "content": {ZIP: CONTENT}}},
)
async def download(
    request: Request, rooms: RoomsOf, artifact: Annotated[str, Path(description="Id or alias.")]
) -> Response:
    """Send an artifact as the zip that `Run.save_artifact` writes."""
    return (await find_zip(rooms, artifact)).response(rooms, request.method)


@routes.post(
    "",
    summary="Publish an artifact",
    responses=failures(_409="Another artifact, or a run, has its id."),
    openapi_extra={"requestBody": {"required": True, "content": {ZIP: CONTENT}}},
)
async def upload(request: Request, rooms: RoomsOf) -> Response:
    """Take the zip of an artifact, check it, and publish it under its own id; the answer is its manifest."""
    kind = request.headers.get("content-type", ZIP).partition(";")[0].strip().lower()
    if kind not in KINDS:
        raise InvalidInput(f"body must be the zip itself, as {ZIP}. Got {kind[:80]!r}. Send it with that content type.")
    if int(request.headers.get("content-length", 0)) > MAX_TOTAL_BYTES:
        text = f"An artifact may have {MAX_TOTAL_BYTES} bytes. Got more."
        raise HTTPException(413, text, headers={"Connection": "close"})
    return answer(await take_zip(rooms, request.stream()))
