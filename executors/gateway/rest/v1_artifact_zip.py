"""Download and upload of artifacts as zips: /v1/artifacts/{artifact}/zip and POST /v1/artifacts."""

from __future__ import annotations

from typing import Annotated

from fastapi import HTTPException, Path, Request, Response

from finetuner.artifacts.manifest import MAX_TOTAL_BYTES
from finetuner.exceptions import InvalidInput

from ..artifacts.artifact_zip import ZIP, find_zip, upload_zip
from .answers import answer
from .route import RoomsOf, failures, router
from .v1_library import Manifest

BYTES = "application/octet-stream"  # the kind of a zip that generators of clients know
KINDS = (ZIP, "application/x-zip-compressed", BYTES)
CONTENT = {"schema": {"type": "string", "format": "binary"}}

routes = router("artifacts", "/v1/artifacts")


@routes.head("/{artifact}/zip", include_in_schema=False)
@routes.get(
    "/{artifact}/zip",
    summary="Download an artifact as a zip",
    response_class=Response,
    responses={200: {"description": "The zip.", "content": {ZIP: CONTENT, BYTES: CONTENT}}},
)
async def download(
    request: Request, rooms: RoomsOf, artifact: Annotated[str, Path(description="Id or alias.")]
) -> Response:
    """Return an artifact as the zip that `Run.save_artifact` writes."""
    return (await find_zip(rooms, artifact)).response(rooms, request.method)


@routes.post(
    "",
    summary="Publish an artifact",
    response_model=Manifest,
    responses=failures(_409="The id belongs to another artifact, or to a run."),
    openapi_extra={"requestBody": {"required": True, "content": {BYTES: CONTENT}}},
)
async def upload(request: Request, rooms: RoomsOf) -> Response:
    """Check the zip of an artifact and publish it under its own id. The answer is its manifest."""
    kind = request.headers.get("content-type", ZIP).partition(";")[0].strip().lower()
    if kind not in KINDS:
        raise InvalidInput(f"Content-Type must be {ZIP}, with the zip itself as body. Got {kind[:80]!r}.")
    if int(request.headers.get("content-length", 0)) > MAX_TOTAL_BYTES:
        text = f"An artifact may have {MAX_TOTAL_BYTES} bytes. Got more. Publish a smaller one."
        raise HTTPException(413, text, headers={"Connection": "close"})
    return answer(await upload_zip(rooms, request.stream()))
