"""Upload of a file as a dataset: POST /v1/datasets/{name} as a form, and /v1/uploads, which can be resumed.

/v1/uploads speaks tus 1.0.0 (https://tus.io/protocols/resumable-upload) with its extensions creation and termination.
A last request, POST /v1/uploads/{upload}/complete, makes the dataset. The gateway does not read the file.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import uuid
from contextlib import suppress
from typing import Annotated, Any, Literal

from docarray.proto.docarray_pb2 import DocumentProto
from fastapi import Header, HTTPException, Path, Query, Request, Response
from pydantic import Field
from starlette.requests import ClientDisconnect

from finetuner.contract import wire
from finetuner.contract.wire import MAX_FILE_BYTES
from finetuner.exceptions import FinetunerError, InvalidInput

from ..artifacts.multipart import Multipart
from ..flow.body import CONTROL, drain, parse_json
from ..flow.rooms import Rooms
from .answers import answer
from .document_forms import Found
from .form import Answer, Form
from .route import RoomsOf, failures, router
from .run_forms import NAME
from .v1_library import Dataset, DatasetName

TUS = "1.0.0"
BYTES = "application/offset+octet-stream"
HEADERS = {"Tus-Resumable": TUS, "Cache-Control": "no-store"}
METADATA = ("dataset", "filename", "as", "columns", "on_error")
IGNORED = ("filetype",)  # browsers' clients send it; the ending of the name says what a file is
MAX_METADATA = 2**14
FORM_BYTES = 2**16  # of a form beside its file
CURL = "Send it with `curl -F file=@photos.zip`."
FILE = {"type": "object", "required": ["file"], "properties": {"file": {"type": "string", "format": "binary"}}}
FAILURES = failures(_507="The disk would be too full, or the token has used up its quota.")


class StoredFile(Dataset):
    """A dataset that was made of a file."""

    left_out: list[str] = Field(..., description="Warnings, such as the rows that on_error='skip' has left out.")
    before: str = Field("", description="The version that the documents were appended to, '' for a new dataset.")


class Upload(Answer):
    """An upload that is not complete."""

    upload: str = Field(..., description="Its id, 32 hex characters.")
    offset: int = Field(..., description="Bytes that have arrived.")
    length: int = Field(..., description="Bytes of the whole file.")


class PreviewForm(Form):
    """How to read the file."""

    kind: Literal["pairs", "labelled"] = Field(
        "pairs", alias="as", description="'pairs' of text and image, or 'labelled' images."
    )
    columns: dict[str, str] | None = Field(None, description="Content -> name of its column; null finds known names.")
    dataset: str | None = Field(None, regex=NAME, description="Another name for the dataset.")
    append: bool = Field(False, description="Whether the documents come behind those that the dataset has.")


class Preview(Answer):
    """What was understood of a file."""

    documents: int = Field(..., description="Number of documents.")
    kinds: dict[str, int] = Field(..., description="'pairs', 'scored pairs', 'labelled' or 'documents' -> number.")
    notes: list[str] = Field(..., description="How the columns of a table were read.")
    left_out: list[str] = Field(..., description="Warnings, with the rows that are left out, by line.")
    first: list[Found] = Field(..., description="The first 20 documents; images are JPEGs of at most 256 pixels.")


As = Annotated[
    Literal["pairs", "labelled"], Query(alias="as", description="'pairs' of text and image, or 'labelled' images.")
]
OnError = Annotated[
    Literal["raise", "skip"], Query(description="'raise' refuses a file with bad rows, 'skip' leaves them out.")
]
Columns = Annotated[
    str | None,
    Query(max_length=2000, description='JSON of content -> name of its column, such as {"text": "titel"}.'),
]
UploadId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$", description="Id of the upload.")]

routes = router("Uploads", "/v1")


@routes.post(
    "/datasets/{name}",
    summary="Upload a file as a dataset",
    response_model=StoredFile,
    responses=FAILURES,
    openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": FILE}}}},
)
async def upload_file(
    name: DatasetName,
    request: Request,
    rooms: RoomsOf,
    as_: As = "pairs",
    columns: Columns = None,
    on_error: OnError = "raise",
) -> Response:
    """Make a dataset of the part `file` of a form: a zip or tar with images, CSV, TSV, jsonl, parquet, or COCO's JSON.

    The dataset of that name is replaced once the whole file is valid. Images lie in the file: paths and addresses in
    its rows are refused.
    """
    length = int(request.headers.get("content-length", MAX_FILE_BYTES))
    if length > MAX_FILE_BYTES + FORM_BYTES:
        raise _too_large()
    begin = _begin({"dataset": name, "as": as_, "columns": columns or "", "on_error": on_error})
    form = Multipart(request.headers.get("content-type", ""), CURL)
    upload, body = uuid.uuid4().hex, request.stream()
    sender = _Sender(rooms, upload)
    try:
        async for piece in form.file_of(body):
            if not sender.begun:
                await sender.begin(begin | {"file": form.filename, "length": min(length, MAX_FILE_BYTES)})
            await sender.add(piece)
        if not sender.begun:
            raise InvalidInput(f"form must have a part 'file' with content. Got none. {CURL}")
        await sender.flush()
        return answer(await rooms.call(wire.DATASETS_UPLOAD, upload=upload, complete=True, length=sender.offset))
    except BaseException as error:  # also when the caller hangs up
        await _forget(rooms, upload)
        if isinstance(error, FinetunerError):
            await drain(body)
        raise


@routes.options("/uploads", include_in_schema=False)
async def describe() -> Response:
    """Describe the server, as tus asks."""
    extensions = {"Tus-Version": TUS, "Tus-Extension": "creation,termination", "Tus-Max-Size": str(MAX_FILE_BYTES)}
    return Response(status_code=204, headers=HEADERS | extensions)


@routes.post(
    "/uploads",
    summary="Begin an upload that can be resumed",
    status_code=201,
    response_model=Upload,
    responses=failures(_412="Another version of tus.", _507="The disk would be too full."),
)
async def begin_upload(
    rooms: RoomsOf,
    tus_resumable: Annotated[str, Header(max_length=40, description="1.0.0, the version of tus.")] = "",
    upload_length: Annotated[int | None, Header(ge=0, le=2**53, description="Bytes of the file.")] = None,
    upload_metadata: Annotated[
        str,
        Header(
            max_length=MAX_METADATA,
            description="`key base64,...` with `dataset`, `filename`, and optionally `as`, `columns` and `on_error`.",
        ),
    ] = "",
) -> Response:
    """Begin an upload by tus 1.0.0. `Location` has its address, for HEAD, PATCH and DELETE."""
    _require_version(tus_resumable)
    if upload_length is None:
        raise InvalidInput("Upload-Length must be the bytes of the file. Got none. Add the header.")
    if upload_length > MAX_FILE_BYTES:
        raise _too_large()
    given = _metadata(upload_metadata)
    upload = uuid.uuid4().hex
    begin = _begin(given) | {"file": given.get("filename", ""), "length": upload_length}
    state = await rooms.call(wire.DATASETS_UPLOAD, upload=upload, begin=begin)
    response = answer({"upload": upload} | state, 201)
    response.headers.update(HEADERS | {"Location": f"/v1/uploads/{upload}", "Upload-Offset": "0"})
    return response


@routes.head("/uploads/{upload}", include_in_schema=False)
async def show_upload(upload: UploadId, rooms: RoomsOf) -> Response:
    """Return the bytes that have arrived, in `Upload-Offset`."""
    state = await rooms.call(wire.DATASETS_UPLOAD, upload=upload)
    return Response(headers=HEADERS | _state_headers(state))


@routes.patch("/uploads/{upload}", include_in_schema=False)
async def continue_upload(
    upload: UploadId,
    request: Request,
    rooms: RoomsOf,
    tus_resumable: Annotated[str, Header()] = "",
    upload_offset: Annotated[int, Header(ge=0, le=2**53)] = -1,
) -> Response:
    """Add bytes from `Upload-Offset` on. What has arrived stays if the connection breaks."""
    _require_version(tus_resumable)
    if request.headers.get("content-type", "") != BYTES:
        raise HTTPException(415, f"Content-Type must be {BYTES}. Got another. Send the bytes of the file.")
    state = await rooms.call(wire.DATASETS_UPLOAD, upload=upload)
    if state["offset"] != upload_offset:
        text = (
            f"Upload-Offset must be {state['offset']}, the bytes that have arrived. Got {upload_offset}. Go on there."
        )
        raise HTTPException(409, text, headers={"Connection": "close"})
    sender = _Sender(rooms, upload, upload_offset)
    body = request.stream()
    try:
        async for piece in body:
            if sender.offset + sender.waiting + len(piece) > state["length"]:
                raise _too_large()
            await sender.add(piece)
    except ClientDisconnect:  # nobody reads this answer
        await sender.flush()
        raise InvalidInput("body must be complete. The caller hung up. Go on at the offset.") from None
    except FinetunerError:
        await drain(body)
        raise
    await sender.flush()
    return Response(status_code=204, headers=HEADERS | {"Upload-Offset": str(sender.offset)})


@routes.delete("/uploads/{upload}", include_in_schema=False)
async def delete_upload(upload: UploadId, rooms: RoomsOf) -> Response:
    """Remove an upload."""
    await rooms.call(wire.DATASETS_UPLOAD, upload=upload)
    await rooms.call(wire.DATASETS_UPLOAD, upload=upload, abort=True)
    return Response(status_code=204, headers=HEADERS)


@routes.post(
    "/uploads/{upload}/preview",
    summary="Read an upload without storing it",
    response_model=Preview,
    responses=FAILURES,
)
async def preview_upload(upload: UploadId, rooms: RoomsOf, form: PreviewForm | None = None) -> Response:
    """Read a whole upload, and show what would be stored: counts, columns, the first documents, bad rows by line.

    `complete` then stores what this has shown, without the bad rows. If the file is not valid, it stays: ask again with
    the names of its columns.
    """
    asked = form or PreviewForm.parse_obj({})
    preview = asked.dict() | {"dataset": asked.dataset or ""}
    return answer(await rooms.call(wire.DATASETS_UPLOAD, upload=upload, preview=preview))


@routes.post(
    "/uploads/{upload}/complete",
    summary="Make a dataset of an upload",
    response_model=StoredFile,
    responses=FAILURES,
)
async def complete_upload(upload: UploadId, rooms: RoomsOf) -> Response:
    """Make a dataset of a whole upload. An upload that is not valid is removed; the error has its bad rows by line."""
    return answer(await rooms.call(wire.DATASETS_UPLOAD, upload=upload, complete=True))


class _Sender:
    """Sends a file to the trainer in pieces of one size.

    Args:
        rooms: the Flow's rooms.
        upload: id of the upload.
        offset: bytes that have arrived.
    """

    def __init__(self, rooms: Rooms, upload: str, offset: int = 0) -> None:
        self.offset = offset
        self.begun = False
        self._rooms = rooms
        self._upload = upload
        self._held = bytearray()

    @property
    def waiting(self) -> int:
        """Bytes that are not sent yet."""
        return len(self._held)

    async def begin(self, begin: dict[str, Any]) -> None:
        """Begin the upload."""
        await self._rooms.call(wire.DATASETS_UPLOAD, upload=self._upload, begin=begin)
        self.begun = True

    async def add(self, content: bytes) -> None:
        """Send bytes, or hold them until they fill a piece."""
        self._held += content
        while len(self._held) >= wire.PIECE_BYTES:
            await self._send()

    async def flush(self) -> None:
        """Send what is held."""
        if self._held:
            await self._send()

    async def _send(self) -> None:
        part = DocumentProto(blob=bytes(self._held[: wire.PIECE_BYTES]))
        del self._held[: wire.PIECE_BYTES]
        await self._rooms.call(wire.DATASETS_UPLOAD, [part], upload=self._upload, offset=self.offset)
        self.offset += len(part.blob)


async def _forget(rooms: Rooms, upload: str) -> None:
    """Remove an upload. If the trainer does not answer, it does so later by itself."""
    with suppress(Exception):
        await asyncio.shield(rooms.call(wire.DATASETS_UPLOAD, upload=upload, abort=True))


def _begin(given: dict[str, str]) -> dict[str, Any]:
    """Return the fields of the trainer's `Upload`, without the file's name and length."""
    columns = given.get("columns", "")
    begin = {"dataset": given.get("dataset", ""), "kind": given.get("as", "pairs")}
    begin["on_error"] = given.get("on_error", "raise")
    return begin | ({"columns": parse_json(columns.encode(), CONTROL)} if columns else {})


def _metadata(header: str) -> dict[str, str]:
    """Return the values of an Upload-Metadata header."""
    found: dict[str, str] = {}
    for pair in filter(None, header.split(",")):
        key, _, value = pair.strip().partition(" ")
        if key in found or key not in (*METADATA, *IGNORED):
            raise InvalidInput(f"Upload-Metadata must have {', '.join(METADATA)}, each once. Got {key!r:.40}.")
        try:
            found[key] = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, ValueError):
            raise InvalidInput(f"Upload-Metadata must be base64 of UTF-8. Got {value!r:.40} for {key}.") from None
    return found


def _state_headers(state: dict[str, Any]) -> dict[str, str]:
    return {"Upload-Offset": str(int(state["offset"])), "Upload-Length": str(int(state["length"]))}


def _require_version(version: str) -> None:
    if version != TUS:
        text = f"Tus-Resumable must be {TUS}. Got {version!r:.40}. Add the header."
        raise HTTPException(412, text, headers={"Tus-Version": TUS})


def _too_large() -> HTTPException:
    text = f"A file may have {MAX_FILE_BYTES} bytes, and no more than its Upload-Length. Got more. Split it."
    return HTTPException(413, text, headers={"Connection": "close"})
