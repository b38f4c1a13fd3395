"""Artifacts for other libraries, their cards, and the history of aliases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import Path, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from finetuner.artifacts.manifest import parse_manifest
from finetuner.contract import wire
from finetuner.exports.card import own_card

from ...artifacts.artifact_zip import ZIP
from ...flow.rooms import Rooms
from .. import documents
from ..answers import answer
from ..form import Answer
from ..route import RoomsOf, router
from ..v1_library import Reference

To = Annotated[
    Literal["open_clip", "transformers", "sentence-transformers", "timm", "onnx"],
    Path(description="The library that loads the export."),
]
CONTENT = {"schema": {"type": "string", "format": "binary"}}

routes = router("Library", "/v1")


class Export(Answer):
    """An export that can be downloaded for a day."""

    artifact: str = Field(..., description="Id of the artifact.")
    to: str = Field(..., description="The library that loads it.")
    size: int = Field(..., description="Bytes of its zip.")


class Target(Answer):
    """What an alias meant once."""

    artifact: str = Field(..., description="The artifact or backbone.")
    promoted_at: float | None = Field(None, description="Seconds since the epoch; null for the first backbone.")


class Alias(Target):
    """An alias, and what it meant before."""

    alias: str = Field(..., description="Its name, such as 'live'.")
    before: list[Target] = Field(..., description="Earlier targets, the last one first; at most 20.")


class Aliases(Answer):
    """All aliases, by name."""

    items: list[Alias]


@routes.get("/aliases", summary="List aliases with their history", response_model=Aliases)
async def list_aliases(rooms: RoomsOf) -> Response:
    """Return every alias with its earlier targets. Promote the first of them to roll back."""
    return answer({"items": await rooms.call(wire.ALIASES_LIST)})


@routes.get(
    "/artifacts/{artifact}/card",
    summary="Get an artifact's model card",
    response_class=Response,
    responses={200: {"description": "Markdown.", "content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def get_card(artifact: Reference, rooms: RoomsOf) -> Response:
    """Return the model card as Markdown: what the model is, how it was made, and what it scored."""
    content = (await rooms.call(wire.ARTIFACTS_PULL, artifact=artifact))["manifest"]
    return Response(own_card(parse_manifest(content, "the Flow")), media_type="text/plain; charset=utf-8")


@routes.post("/artifacts/{artifact}/exports/{to}", summary="Export an artifact", response_model=Export)
async def make_export(artifact: Reference, to: To, rooms: RoomsOf) -> Response:
    """Write an artifact as the folder that another library loads. It can then be downloaded for a day."""
    return answer(await rooms.call(wire.ARTIFACTS_EXPORT, artifact=artifact, to=to))


@routes.get(
    "/artifacts/{artifact}/exports/{to}",
    summary="Download an export",
    response_class=Response,
    responses={200: {"description": "The zip.", "content": {ZIP: CONTENT}}},
)
async def get_export(artifact: Reference, to: To, rooms: RoomsOf) -> Response:
    """Return the zip of an export that was made before."""
    first = await _piece(rooms, artifact, to, 0)
    headers = {"Content-Disposition": f'attachment; filename="{to}.zip"'}
    return StreamingResponse(_pieces(rooms, artifact, to, first), headers=headers, media_type=ZIP)


async def _pieces(rooms: Rooms, artifact: str, to: str, piece: bytes) -> AsyncIterator[bytes]:
    offset = 0
    while piece:
        yield piece
        offset += len(piece)
        piece = await _piece(rooms, artifact, to, offset)


async def _piece(rooms: Rooms, artifact: str, to: str, offset: int) -> bytes:
    asked: dict[str, Any] = {"artifact": artifact, "export": to, "offset": offset}
    (message,) = documents.or_raise(await rooms.post(wire.ARTIFACTS_PULL, **asked))
    return bytes(message.blob)
