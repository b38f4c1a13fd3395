"""Artifacts as zips, streamed in pieces between a caller and the trainer, which stores artifacts.

The trainer checks an uploaded zip once it is complete. The gateway does not read it.
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

from ..flow.body import drain
from ..flow.rooms import Rooms
from .zip_stream import ZipStream, zip_size

ZIP = "application/zip"


@dataclass(frozen=True)
class ArtifactZip:
    """An artifact as the zip that `save_artifact` writes."""

    content: str
    """Text of its manifest file."""
    manifest: Manifest

    @property
    def files(self) -> list[tuple[str, int]]:
        """Name in the zip and size in bytes of each file."""
        sizes = {MANIFEST: len(self.content.encode())}
        sizes |= {name: entry["size"] for name, entry in self.manifest.files.items()}
        return [(f"{self.manifest.run_name}/{name}", size) for name, size in sizes.items()]

    @property
    def headers(self) -> dict[str, str]:
        """Headers of a response with the zip."""
        return {
            "Content-Length": str(zip_size(self.files)),
            "Content-Disposition": f'attachment; filename="{self.manifest.run_name}.zip"',
        }

    def response(self, rooms: Rooms, method: str) -> Response:
        """Return the answer to GET, or only its headers for HEAD."""
        if method == "HEAD":
            return Response(headers=self.headers, media_type=ZIP)
        return StreamingResponse(download_zip(rooms, self), headers=self.headers, media_type=ZIP)


async def find_zip(rooms: Rooms, reference: str) -> ArtifactZip:
    """Return the description of an artifact's zip.

    Args:
        rooms: the Flow's rooms.
        reference: id or alias.

    Raises:
        ArtifactNotFound, CorruptedMetadata
    """
    content = (await rooms.call(wire.ARTIFACTS_PULL, artifact=reference))["manifest"]
    return ArtifactZip(content, parse_manifest(content, "the Flow"))


async def download_zip(rooms: Rooms, artifact: ArtifactZip) -> AsyncIterator[bytes]:
    """Yield an artifact's zip.

    Raises:
        FinetunerServerError: the size of a file has changed; the caller's download ends early.
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
            raise FinetunerServerError(f"{file} of artifact {artifact_id} must have {size} bytes. Got {offset}")
        yield piece


async def upload_zip(rooms: Rooms, body: AsyncIterator[bytes]) -> dict[str, Any]:
    """Send a zip to the trainer as it arrives, and publish it.

    Returns:
        The artifact's manifest.

    Raises:
        FinetunerError: the upload or the artifact is invalid. The trainer drops the upload.
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
    except BaseException as error:  # including the cancellation of this task when the caller hangs up
        await asyncio.shield(_forget(rooms, upload))
        if isinstance(error, FinetunerError):
            await drain(body)
        if isinstance(error, ClientDisconnect):  # nobody reads this answer
            raise InvalidInput("artifact must be complete. The caller hung up. Upload it again.") from None
        raise


async def _forget(rooms: Rooms, upload: str) -> None:
    """Drop an unfinished upload. If the trainer does not answer, it drops the upload later by itself."""
    with suppress(Exception):
        await rooms.call(wire.ARTIFACTS_PUSH, upload=upload, abort=True)
