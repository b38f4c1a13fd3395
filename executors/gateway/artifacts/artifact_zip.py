"""Artifacts through the gateway as zips, a piece at a time: to and from the room that keeps them.

A zip that comes is checked there, when it is whole; here nothing of it is read.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from docarray.proto.docarray_pb2 import DocumentProto
from fastapi import Response
from fastapi.responses import StreamingResponse
from starlette.requests import ClientDisconnect

from finetuner.artifacts.manifest import MANIFEST, Manifest, parse_manifest
from finetuner.contract import wire
from finetuner.contract.wire import ERROR_TAG
from finetuner.exceptions import FinetunerError, FinetunerServerError, InvalidInput

from ..flow.rooms import Rooms
from ..hub.transfer import drain
from .zip_stream import ZipStream, zip_size

ZIP = "application/zip"


@dataclass(frozen=True)
class ArtifactZip:
    """An artifact as the zip that `save_artifact` writes."""

    content: str
    """Of its manifest file."""
    manifest: Manifest

    @property
    def files(self) -> list[tuple[str, int]]:
        """Name in the zip, and size, of each file."""
        sizes = {MANIFEST: len(self.content.encode())}
        sizes |= {name: entry["size"] for name, entry in self.manifest.files.items()}
        return [(f"{self.manifest.run_name}/{name}", size) for name, size in sizes.items()]

    @property
    def headers(self) -> dict[str, str]:
        """Of the response that holds it."""
        return {
            "Content-Length": str(zip_size(self.files)),
            "Content-Disposition": f'attachment; filename="{self.manifest.run_name}.zip"',
        }

    def response(self, rooms: Rooms, method: str) -> Response:
        """Return the answer to GET, or its headers alone to HEAD."""
        if method == "HEAD":
            return Response(headers=self.headers, media_type=ZIP)
        return StreamingResponse(give_zip(rooms, self), headers=self.headers, media_type=ZIP)


async def find_zip(rooms: Rooms, reference: str) -> ArtifactZip:
    """Return what an artifact's zip will be.

    Args:
        rooms: of the Flow.
        reference: id or alias.

    Raises:
        ArtifactNotFound, CorruptedMetadata
    """
    content = (await rooms.call(wire.ARTIFACTS_PULL, artifact=reference))["manifest"]
    return ArtifactZip(content, parse_manifest(content, "the Flow"))


async def give_zip(rooms: Rooms, artifact: ArtifactZip) -> AsyncIterator[bytes]:
    """Yield an artifact's zip.

    Raises:
        FinetunerServerError: a file has another size now; the caller sees a download that ends early.
    """
    stream, top = ZipStream(), f"{artifact.manifest.run_name}/"
    for name, size in artifact.files:
        yield stream.begin(name)
        if name == top + MANIFEST:
            yield stream.piece(artifact.content.encode())
        else:
            async for piece in _pieces(rooms, artifact.manifest.artifact_id, name.removeprefix(top), size):
                yield await asyncio.to_thread(stream.piece, piece)
        yield stream.end()
    yield stream.finish()


async def _pieces(rooms: Rooms, artifact_id: str, file: str, size: int) -> AsyncIterator[bytes]:
    offset = 0
    while offset < size:
        (message,) = await rooms.post(wire.ARTIFACTS_PULL, artifact=artifact_id, file=file, offset=offset)
        piece: bytes = message.blob
        offset += len(piece)
        if ERROR_TAG in message.tags.fields or not piece or offset > size:
            raise FinetunerServerError(f"{file} of artifact {artifact_id} ends after {offset} of {size} bytes")
        yield piece


async def take_zip(rooms: Rooms, body: AsyncIterator[bytes]) -> dict[str, Any]:
    """Pass a zip on to the room that keeps artifacts, as it arrives, and let it be published.

    Returns:
        The artifact's manifest.

    Raises:
        FinetunerError: whatever is wrong with it; what has been passed on is forgotten then.
    """
    upload, held, offset = uuid.uuid4().hex, bytearray(), 0

    async def send() -> None:
        nonlocal offset
        part = DocumentProto(blob=bytes(held[: wire.PIECE_BYTES]))
        del held[: wire.PIECE_BYTES]
        await rooms.call(wire.ARTIFACTS_PUSH, [part], upload=upload, offset=offset)
        offset += len(part.blob)

    try:
        async for chunk in body:
            held += chunk
            while len(held) >= wire.PIECE_BYTES:
                await send()
        if held or not offset:
            await send()
        manifest: dict[str, Any] = await rooms.call(wire.ARTIFACTS_PUSH, upload=upload, commit=offset)
        return manifest
    except BaseException as error:  # also a caller that hangs up, which ends this task
        await asyncio.shield(_forget(rooms, upload))
        if isinstance(error, FinetunerError):
            await drain(body)
        if isinstance(error, ClientDisconnect):  # answered for the log alone
            raise InvalidInput("artifact must be whole. Its caller has hung up. Upload it again.") from None
        raise


async def _forget(rooms: Rooms, upload: str) -> None:
    """Remove what has arrived; where the room does not answer, it does so itself later."""
    with suppress(Exception):
        await rooms.call(wire.ARTIFACTS_PUSH, upload=upload, abort=True)
