"""The hub under /v2/rpc/, as DocArray v1 and jina-hubble-sdk speak it: `DocumentArray.push` and `pull` end here.

A dataset is an artifact of type 'documentArray' whose id follows from its name; what a run has published is one of
type 'model'. The workspace is the trainer's: everything here goes through its endpoints.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from finetuner.contract import wire
from finetuner.exceptions import AlreadyExists, FinetunerServerError, InvalidInput, NotFound

from ..access.roles import HUB
from ..artifacts.artifact_zip import find_zip
from ..artifacts.zip_stream import zip_size
from ..flow.failures import failure
from ..flow.handler import Handler
from ..flow.rooms import Rooms
from .form import read_fields
from .links import DOWNLOADS, Download, Links
from .transfer import forget, give, name_of, take

DATASET, MODEL = "documentArray", "model"
# jina-hubble-sdk looks up its exception class by this number, and fails on one that it does not know.
MISSING, TAKEN, MALFORMED, TOO_LARGE, FAILED = 40403, 42202, 42203, 41301, 50001

Answer = Callable[[Request], Awaitable[Any]]


def hub_routes(handler: Handler, rooms: Rooms) -> APIRouter:
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
            router.add_api_route(f"{HUB}{name}", answer, methods=[verb], summary=method.__doc__)

    async def download(request: Request) -> Response:
        try:
            return await hub.download(request)
        except Exception as error:
            return failure(handler, DOWNLOADS, error)

    for verb in ("GET", "HEAD"):
        router.add_api_route(f"{DOWNLOADS}{{version}}", download, methods=[verb], summary=hub.download.__doc__)
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
    match error:
        case NotFound():
            code, status = 404, MISSING
        case AlreadyExists():
            code, status = 409, TAKEN
        case InvalidInput():
            code, status = 422, MALFORMED
        case HTTPException():  # a body that is too large or does not come
            code, status = error.status_code, TOO_LARGE
        case FinetunerServerError():
            code, status = error.code, TOO_LARGE if error.code == 413 else FAILED
        case _:
            handler.logger.error(f"{name} failed in the gateway", exc_info=error)
            code, status = 500, FAILED
    handler.metrics.answered("http", f"{HUB}{name}", "refused" if code < 500 else "failed")
    message = str(error) if code != 500 or isinstance(error, FinetunerServerError) else f"{name} failed: {error!r}"
    message = error.detail if isinstance(error, HTTPException) else message
    # `readableMessage` is what DocumentArray.push shows, `message` what hubble's client shows
    content = {"code": code, "status": status, "message": message, "readableMessage": message, "detail": message}
    return JSONResponse(content, code, headers={"Connection": "close"} if name == "artifact.upload" else None)


class Hub:
    """The hub's methods; each returns {'data': ...} and what else the answer holds."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = rooms
        self._links = Links()

    async def whoami(self, request: Request) -> dict[str, Any]:
        """Say who the token's owner is; there is one owner."""
        return {"data": {"_id": "finetuner", "name": "finetuner", "nickname": "Open Finetuner"}}

    async def upload(self, request: Request) -> dict[str, Any]:
        """Store a stream of documents as a dataset, whole or not at all."""
        content_type = request.headers.get("content-type", "")
        fields, upload, count = await take(self._rooms, content_type, request.stream())
        try:
            name = (await self._dataset({"id": fields["id"]}))["name"] if fields.get("id") else name_of(fields)
            dataset = await self._rooms.call(wire.DATASETS_PUSH, upload=upload, name=name, commit=count)
        except BaseException:
            await forget(self._rooms, upload)
            raise
        return {"data": _described(dataset)}

    async def download_url(self, request: Request) -> dict[str, Any]:
        """Return an address that gives a dataset or a published artifact for some minutes, without a token."""
        fields = await read_fields(request)
        try:
            dataset = await self._dataset(fields)
        except NotFound:
            return await self._model_url(request, fields)
        if not dataset["stream_size"]:
            raise InvalidInput(f"dataset {dataset['name']!r} was stored by an older version. Push it again.")
        download = Download(dataset["version"], dataset["documents"], dataset["stream_size"])
        return {"data": {"download": self._links.address(str(request.base_url), download), **_described(dataset)}}

    async def _model_url(self, request: Request, fields: dict[str, Any]) -> dict[str, Any]:
        model = await self._entry(fields)
        download = Download(model["_id"], 0, zip_size((await find_zip(self._rooms, model["_id"])).files))
        return {"data": {"download": self._links.address(str(request.base_url), download), **model}}

    async def download(self, request: Request) -> Response:
        """Give the dataset or artifact of a signed address."""
        download = self._links.read(request.path_params["version"], request.query_params)
        if download is None:
            message = (
                "This address is not of this server, or its time is over. Ask artifact.getDownloadUrl for another."
            )
            return JSONResponse({"detail": message}, 403)
        if not download.documents:
            return (await find_zip(self._rooms, download.version)).response(self._rooms, request.method)
        headers = {"Content-Length": str(download.size)}
        if request.method == "HEAD":
            return Response(headers=headers)
        documents = give(self._rooms, download.version, download.documents)
        return StreamingResponse(documents, media_type="application/octet-stream", headers=headers)

    async def detail(self, request: Request) -> dict[str, Any]:
        """Describe a dataset or a published artifact."""
        return {"data": await self._entry(await read_fields(request))}

    async def list_all(self, request: Request) -> dict[str, Any]:
        """Describe datasets and published artifacts, a page of them where `pageSize` is given."""
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
        """Forget a dataset that no unfinished run reads."""
        dataset = await self._dataset(await read_fields(request))
        return {"data": _described(await self._rooms.call(wire.DATASETS_DELETE, name=dataset["name"]))}

    async def update(self, request: Request) -> dict[str, Any]:
        """Give a dataset another name; its id changes with it."""
        fields = await read_fields(request)
        if unknown := sorted(set(fields) - {"id", "name"}):
            raise InvalidInput(f"artifact.update changes the name alone. Got {', '.join(unknown)}. Leave it out.")
        dataset = await self._dataset({"id": fields.get("id")})
        name = fields.get("name")
        if not name or name == dataset["name"]:
            return {"data": _described(dataset)}
        if any(other["name"] == name for other in await self._rooms.call(wire.DATASETS_LIST)):
            raise AlreadyExists(f"name must be new. Got {name!r}, which is a dataset. Delete that one first.")
        whole = {"name": name, "commit": dataset["documents"], "version": dataset["version"]}
        renamed = await self._rooms.call(wire.DATASETS_PUSH, upload=uuid.uuid4().hex, **whole)
        await self._rooms.call(wire.DATASETS_DELETE, name=dataset["name"])
        return {"data": _described(renamed)}

    async def package(self, request: Request) -> dict[str, Any]:
        """Refuse: there is no executor here, whatever its name on Jina's hub."""
        name = str((await read_fields(request)).get("id"))[:80]
        raise NotFound(
            f"uses must be jinaai://finetuner/FinetunerExecutor, which `finetuner.login` maps to ours, or the path of "
            f"a config.yml: this Flow's hub holds no executors. Got {name!r}."
        )

    async def _dataset(self, fields: dict[str, Any]) -> dict[str, Any]:
        if not fields.get("id") and not fields.get("name"):
            raise InvalidInput("one of 'id' and 'name' must be given. Got neither.")
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


def _missing(fields: dict[str, Any], what: str = "dataset") -> NotFound:
    asked = fields.get("id") or fields.get("name")
    return NotFound(f"a {what} of this Flow must be named. Got {str(asked)[:80]!r}. See artifact.list.")


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
        "visibility": "public",
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
        "visibility": "public",
        "metaData": {"backbone": manifest["backbone"], "metrics": manifest["metrics"]},
        "createdAt": manifest["created_at"],
        "updatedAt": manifest["created_at"],
    }
