"""The hub under /v2/rpc/, for `DocumentArray.push` and `pull` of DocArray v1 and for jina-hubble-sdk.

A dataset is an artifact of type 'documentArray', with an id that is a hash of its name. A published artifact of a run
has type 'model'. All data lives in the trainer's workspace, and is reached through the trainer's endpoints.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from pydantic import BaseModel, Field

from finetuner.contract import wire
from finetuner.exceptions import AlreadyExists, Forbidden, InvalidInput, NotFound

from ..access.access import Access
from ..access.roles import AUTHORIZE, DOWNLOADS, HUB
from ..artifacts.artifact_zip import find_zip
from ..artifacts.zip_stream import zip_size
from ..flow.failures import failure, outcome, refusal
from ..flow.handler import Handler
from ..flow.rooms import Rooms
from .form import read_fields
from .links import Download, Links
from .transfer import abort_upload, dataset_stream, name_of, store_parts

DATASET, MODEL = "documentArray", "model"
VISIBILITY = "private"  # whatever `push(public=...)` says: nobody reads an artifact without a token of this Flow
# jina-hubble-sdk finds its exception class by `status`, and fails on an unknown number.
MISSING, TAKEN, MALFORMED, TOO_LARGE, FAILED = 40403, 42202, 42203, 41301, 50001

BYTES, BINARY = "application/octet-stream", {"type": "string", "format": "binary"}

Answer = Callable[[Request], Awaitable[Any]]


class HubAnswer(BaseModel):
    """The answer of a method of the hub."""

    code: int = Field(..., description="The HTTP status.")
    status: int = Field(..., description="20000.")
    data: dict[str, Any] | list[dict[str, Any]] = Field(..., description="The account, the artifact, or the artifacts.")
    meta: dict[str, Any] | None = Field(None, description="Of a list: {'total': number of artifacts on all pages}.")


def hub_routes(handler: Handler, rooms: Rooms, access: Access) -> APIRouter:
    """Return the hub's routes."""
    hub, router = Hub(rooms), APIRouter()
    methods: dict[str, Answer] = {
        "user.identity.whoami": hub.whoami,
        "artifact.upload": hub.upload,
        "artifact.getDownloadUrl": hub.download_url,
        "artifact.getDetail": hub.detail,
        "artifact.list": hub.list_all,
        "artifact.delete": hub.delete,
        "artifact.update": hub.update,
        "executor.getPackage": hub.package,
    }
    for name, method in methods.items():
        answer = _answering(handler, name, method)
        for verb in ("GET", "POST") if name == "artifact.getDownloadUrl" else ("POST",):
            route = f"{HUB}{name}"
            router.add_api_route(route, answer, methods=[verb], summary=method.__doc__, response_model=HubAnswer)

    async def authorize(request: Request) -> Response:
        return PlainTextResponse(await hub.authorize(access.locked))

    router.add_api_route(
        AUTHORIZE, authorize, methods=["GET"], summary=hub.authorize.__doc__, response_class=PlainTextResponse
    )

    async def download(request: Request, version: str) -> Response:
        try:
            return await hub.download(request)
        except Exception as error:
            return failure(handler, DOWNLOADS, error)

    for verb in ("GET", "HEAD"):
        router.add_api_route(
            f"{DOWNLOADS}{{version}}",
            download,
            methods=[verb],
            summary=hub.download.__doc__,
            response_class=Response,
            responses={200: {"description": "The content.", "content": {BYTES: {"schema": BINARY}}}},
        )
    return router


def _answering(handler: Handler, name: str, method: Answer) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        try:
            data = await method(request)
        except Exception as error:
            return _refusal(handler, name, error)
        handler.metrics.answered("http", f"{HUB}{name}", "ok")
        return JSONResponse({"code": 200, "status": 20000, **data})

    return answer


def _refusal(handler: Handler, name: str, error: Exception) -> Response:
    code, body, _ = refusal(handler, name, error)
    match error:
        case NotFound():
            status = MISSING
        case AlreadyExists():
            status = TAKEN
        case InvalidInput():
            code, status = 422, MALFORMED
        case _:
            status = TOO_LARGE if code in (408, 413) else FAILED
    handler.metrics.answered("http", f"{HUB}{name}", outcome(code))
    # DocumentArray.push shows `readableMessage`, hubble's client shows `message`
    content = {**body, "code": code, "status": status, "message": body["detail"], "readableMessage": body["detail"]}
    return JSONResponse(content, code, headers={"Connection": "close"} if name == "artifact.upload" else None)


class Hub:
    """The methods of the hub. Each returns the fields of its answer, such as {'data': ...}."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._links = Links()

    async def whoami(self, request: Request) -> dict[str, Any]:
        """Return the account of the token. All tokens share one account."""
        return {"data": {"_id": "finetuner", "name": "finetuner", "nickname": "Open Finetuner"}}

    async def authorize(self, locked: bool) -> str:
        """Explain what to log in with, as an event of the hub: there is no page to log in to."""
        reason = (
            "JINA_AUTH_TOKEN must hold a token of this Flow. It does not. Ask its owner for one, and log in again."
            if locked
            else "JINA_AUTH_TOKEN must hold any text: this Flow needs no token, and has no page to log in to. It holds "
            "none. Set it, and log in again without force=True."
        )
        return json.dumps({"event": "error", "data": reason}) + "\n"

    async def upload(self, request: Request) -> dict[str, Any]:
        """Store a stream of documents as a dataset, completely or not at all."""
        content_type = request.headers.get("content-type", "")
        fields, upload, count = await store_parts(self._rooms, content_type, request.stream())
        try:
            name = (await self._dataset({"id": fields["id"]}))["name"] if fields.get("id") else name_of(fields)
            dataset = await self._rooms.call(wire.DATASETS_PUSH, upload=upload, name=name, commit=count)
        except BaseException:
            await abort_upload(self._rooms, upload)
            raise
        return {"data": _described(dataset)}

    async def download_url(self, request: Request) -> dict[str, Any]:
        """Return a signed URL of a dataset or a published artifact. It works for 10 minutes without a token."""
        fields = await read_fields(request)
        try:
            dataset = await self._dataset(fields)
        except NotFound:
            return await self._model_url(request, fields)
        if not dataset["stream_size"]:
            raise InvalidInput(
                f"dataset must have a known size. Got {dataset['name']!r}, stored by an older version. Push it again."
            )
        download = Download(dataset["version"], dataset["documents"], dataset["stream_size"])
        return {"data": {"download": self._links.sign(str(request.base_url), download), **_described(dataset)}}

    async def _model_url(self, request: Request, fields: dict[str, Any]) -> dict[str, Any]:
        model = await self._entry(fields)
        download = Download(model["_id"], 0, zip_size((await find_zip(self._rooms, model["_id"])).files))
        return {"data": {"download": self._links.sign(str(request.base_url), download), **model}}

    async def download(self, request: Request) -> Response:
        """Download the dataset or artifact of a signed URL."""
        download = self._links.verify(request.path_params["version"], request.query_params)
        if download is None:
            raise Forbidden(
                "A download needs a valid URL signed by this server. Got a wrong or expired one. "
                "Get a new one from artifact.getDownloadUrl."
            )
        if not download.documents:
            return (await find_zip(self._rooms, download.version)).response(self._rooms, request.method)
        headers = {"Content-Length": str(download.size)}
        if request.method == "HEAD":
            return Response(headers=headers)
        content = dataset_stream(self._rooms, download.version, download.documents)
        return StreamingResponse(content, media_type="application/octet-stream", headers=headers)

    async def detail(self, request: Request) -> dict[str, Any]:
        """Describe a dataset or a published artifact."""
        return {"data": await self._entry(await read_fields(request))}

    async def list_all(self, request: Request) -> dict[str, Any]:
        """Describe all datasets and published artifacts, or one page of them if `pageSize` is given."""
        fields = await read_fields(request)
        asked = fields.get("filter") or {}
        entries = await self._entries()
        if isinstance(asked, dict) and asked.get("type"):
            entries = [entry for entry in entries if entry["type"] == asked["type"]]
        sort = fields.get("sort")
        if isinstance(sort, dict) and len(sort) == 1:
            ((key, order),) = sort.items()
            entries.sort(key=lambda entry: str(entry.get(key, "")), reverse=order == -1)
        total = len(entries)
        if (size := _whole(fields, "pageSize", 0)) > 0:
            start = (max(_whole(fields, "pageIndex", 1), 1) - 1) * size
            entries = entries[start : start + size]
        return {"data": entries, "meta": {"total": total}}

    async def delete(self, request: Request) -> dict[str, Any]:
        """Delete a dataset that no unfinished run uses."""
        dataset = await self._dataset(await read_fields(request))
        return {"data": _described(await self._rooms.call(wire.DATASETS_DELETE, name=dataset["name"]))}

    async def update(self, request: Request) -> dict[str, Any]:
        """Rename a dataset. Its id changes with its name."""
        fields = await read_fields(request)
        if unknown := sorted(set(fields) - {"id", "name"}):
            raise InvalidInput(f"artifact.update can only change the name. Got {', '.join(unknown)}. Leave it out.")
        dataset = await self._dataset({"id": fields.get("id")})
        name = fields.get("name")
        if not name or name == dataset["name"]:
            return {"data": _described(dataset)}
        if any(other["name"] == name for other in await self._rooms.call(wire.DATASETS_LIST)):
            raise AlreadyExists(f"name must be new. Got {name!r}, the name of another dataset. Delete that one first.")
        whole = {"name": name, "commit": dataset["documents"], "version": dataset["version"]}
        renamed = await self._rooms.call(wire.DATASETS_PUSH, upload=uuid.uuid4().hex, **whole)
        await self._rooms.call(wire.DATASETS_DELETE, name=dataset["name"])
        return {"data": _described(renamed)}

    async def package(self, request: Request) -> dict[str, Any]:
        """Refuse: this hub holds no executors."""
        name = str((await read_fields(request)).get("id"))[:80]
        raise NotFound(
            f"uses must be jinaai://finetuner/FinetunerExecutor, which `finetuner.login` maps to ours, or the path of "
            f"a config.yml: this Flow's hub holds no executors. Got {name!r}."
        )

    async def _dataset(self, fields: dict[str, Any]) -> dict[str, Any]:
        if not fields.get("id") and not fields.get("name"):
            raise InvalidInput("A request must have an 'id' or a 'name'. Got neither. Add one.")
        if not fields.get("id"):
            (found,) = await self._rooms.call(wire.DATASETS_LIST, name=str(fields["name"]))
            return dict(found)
        for dataset in await self._rooms.call(wire.DATASETS_LIST):
            if fields["id"] == _id(dataset["name"]):
                return dict(dataset)
        raise _missing(fields)

    async def _entry(self, fields: dict[str, Any]) -> dict[str, Any]:
        for entry in await self._entries():
            if fields.get("id") == entry["_id"] or ("id" not in fields and fields.get("name") == entry["name"]):
                return entry
        raise _missing(fields, "dataset or artifact")

    async def _entries(self) -> list[dict[str, Any]]:
        datasets = await self._rooms.call(wire.DATASETS_LIST)
        artifacts = await self._rooms.call(wire.ARTIFACTS_LIST)
        return [*map(_described, datasets), *map(_described_model, artifacts)]


def _missing(fields: dict[str, Any], kind: str = "dataset") -> NotFound:
    asked = fields.get("id") or fields.get("name")
    return NotFound(f"'id' or 'name' must be of a {kind} of this Flow. Got {str(asked)[:80]!r}. See artifact.list.")


def _whole(fields: dict[str, Any], name: str, default: int) -> int:
    value = fields.get(name, default)
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        raise InvalidInput(f"{name} must be a whole number. Got {value!r:.40}.") from None


def _id(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:24]


def _described(dataset: dict[str, Any]) -> dict[str, Any]:
    made = datetime.fromtimestamp(dataset["created_at"], UTC).isoformat()
    summary = [{"name": "Length", "value": dataset["documents"]}, {"name": "Kind", "value": dataset["kind"]}]
    return {
        "_id": _id(dataset["name"]),
        "name": dataset["name"],
        "type": DATASET,
        "visibility": VISIBILITY,
        "contentHash": dataset["version"],
        "size": dataset["size"],
        "metaData": {"summary": summary},
        "createdAt": made,
        "updatedAt": made,
    }


def _described_model(manifest: dict[str, Any]) -> dict[str, Any]:
    return {
        "_id": manifest["artifact_id"],
        "name": manifest["run_name"],
        "type": MODEL,
        "visibility": VISIBILITY,
        "metaData": {"backbone": manifest["backbone"], "metrics": manifest["metrics"]},
        "createdAt": manifest["created_at"],
        "updatedAt": manifest["created_at"],
    }
