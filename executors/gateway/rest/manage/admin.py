"""Administration: tokens, the audit log, and the state of the machine. Tokens and log need the role `admin`."""

from __future__ import annotations

import asyncio
import json
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from fastapi import Path as InPath
from fastapi import Query, Request, Response
from pydantic import Field

from finetuner.contract import wire
from finetuner.database.tokens import TokenTable, token_store
from finetuner.exceptions import Forbidden, InvalidInput
from finetuner.version import __version__
from finetuner.workspace.tokens import MAX_DAYS, TokenFile

from ...access.access import Access
from ..answers import answer
from ..form import Answer, Form
from ..route import RoomsOf, failures, router
from ..run_forms import NAME, NAME_TEXT

Result = TypeVar("Result")

TAIL_BYTES = 2**20  # of the audit log, from its end
MOST_LINES = 1000

routes = router("Administration", "/v1")


class TokenState(Answer):
    """A token of this Flow, without its secret."""

    name: str = Field(..., description="Name of its person or program.")
    role: str = Field(..., description="'read', 'write' or 'admin'.")
    state: str = Field(..., description="'valid', 'expired' or 'revoked'.")
    created_at: float = Field(..., description="Seconds since the epoch.")
    expires_at: float | None = Field(None, description="Seconds since the epoch; null for never.")
    revoked_at: float | None = Field(None, description="Seconds since the epoch; null unless it was revoked.")
    last_used: float | None = Field(
        None, description="Seconds since the epoch, over HTTP or gRPC; null if not since the gateway started."
    )


class TokenList(Answer):
    """The tokens of the workspace, in order of creation."""

    items: list[TokenState]
    locked: bool = Field(..., description="Whether requests need a token.")


class TokenForm(Form):
    """A new token."""

    name: str = Field(..., regex=NAME, description=f"Its person or program: {NAME_TEXT}.")
    role: Literal["read", "write", "admin"] = Field(..., description="Each role includes those before it.")
    days: int | None = Field(None, ge=1, le=MAX_DAYS, description="Days until it expires; null for never.")


class NewToken(Answer):
    """A new token with its secret, which nobody can show again."""

    name: str = Field(..., description="Its name.")
    secret: str = Field(..., description="The token itself. Only its hash is stored.")


class RevokedToken(Answer):
    """A token that opens nothing any more."""

    name: str = Field(..., description="Its name.")


class AuditLines(Answer):
    """The last lines of the audit log, newest first."""

    items: list[dict[str, Any]] = Field(..., description="See the documentation of the audit log.")


class RoomState(Answer):
    """What a room says of itself. Of several replicas, one answers."""

    name: str = Field(..., description="Name of the room.")
    silent: bool = Field(False, description="Whether the room does not answer; it has no other fields then.")
    started_at: float | None = Field(None, description="Seconds since the epoch.")
    memory: int | None = Field(None, description="Bytes of its process; null if not known.")
    versions: dict[str, str] | None = Field(None, description="Package -> version, of those in use.")
    settings: dict[str, Any] | None = Field(None, description="Setting -> value in force; '***' for a credential.")
    log: list[str] | None = Field(None, description="The last 200 lines at most.")


class RoomList(Answer):
    """All rooms of the Flow."""

    items: list[RoomState]


class System(Answer):
    """The machine and the queue."""

    version: str = Field(..., description="Version of open-finetuner.")
    python: str = Field(..., description="Version of Python.")
    system: str = Field(..., description="Operating system and architecture.")
    disk_free: int | None = Field(None, description="Free bytes on the workspace's disk.")
    disk_total: int | None = Field(None, description="Bytes of that disk.")
    runs: dict[str, int] = Field(..., description="Runs by status. CREATED is the queue.")
    role: str = Field(..., description="The caller's: 'read', 'write' or 'admin'.")


@routes.get("/tokens", summary="List tokens", response_model=TokenList)
async def list_tokens(request: Request) -> Response:
    """Return every token of the workspace, revoked and expired ones included. No secret is ever returned."""
    access, now = _access(request), time.time()
    items = [
        {
            "name": token.name,
            "role": str(token.role),
            "state": token.state(now),
            "created_at": token.created_at,
            "expires_at": token.expires_at,
            "revoked_at": token.revoked_at,
            "last_used": access.last_used.get(token.name),
        }
        for token in await asyncio.to_thread(_with_tokens, access, lambda store: store.read())
    ]
    return answer({"items": items, "locked": access.locked})


@routes.post(
    "/tokens", summary="Create a token", response_model=NewToken, responses=failures(_409="A token has that name.")
)
async def create_token(form: TokenForm, request: Request) -> Response:
    """Create a token and return its secret, once. The first token of a Flow is made on its machine."""
    access = _access(request)
    if not access.locked:  # whoever reaches an open Flow must not lock out its owner
        raise Forbidden(
            "The first token must be made on the Flow's machine, by `finetuner token create NAME --role admin`. Got a "
            "request to a Flow without any. Make it there, and log in with it."
        )
    secret = await asyncio.to_thread(_with_tokens, access, lambda store: store.create(form.name, form.role, form.days))
    return answer({"name": form.name, "secret": secret})


@routes.post("/tokens/{name}/revoke", summary="Revoke a token", response_model=RevokedToken)
async def revoke_token(
    name: Annotated[str, InPath(pattern=NAME, description=f"The token: {NAME_TEXT}.")], request: Request
) -> Response:
    """Revoke a token. The Flow stops accepting it at once."""
    await asyncio.to_thread(_with_tokens, _access(request), lambda store: store.revoke(name))
    return answer({"name": name})


@routes.get("/audit", summary="Read the audit log", response_model=AuditLines)
async def read_audit(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=MOST_LINES, description="Maximum number of lines.")] = 100,
) -> Response:
    """Return the last lines of the audit log, newest first: requests that needed `write` or `admin`."""
    file = _root(_access(request)) / "audit.jsonl"
    return answer({"items": await asyncio.to_thread(lambda: list(_tail(file, limit)))})


@routes.get("/rooms", summary="Describe the rooms", response_model=RoomList)
async def describe_rooms(rooms: RoomsOf) -> Response:
    """Return memory, versions, settings and the last lines of the log of each room. Credentials are left out."""
    found = await rooms.descriptions()
    return answer({"items": [{"name": name, **(each or {"silent": True})} for name, each in found.items()]})


@routes.get("/system", summary="Describe the machine and the queue", response_model=System)
async def describe_system(request: Request, rooms: RoomsOf) -> Response:
    """Return versions, free disk space and the number of runs by status. `/healthz` has the rooms."""
    counts = (await rooms.call(wire.RUNS_CHANGES))["counts"]
    found: dict[str, Any] = {
        "version": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "runs": counts,
        "role": str(request.state.entry.caller.role),
    }
    root = _access(request).root
    if root is not None:
        disk = shutil.disk_usage(root)
        found |= {"disk_free": disk.free, "disk_total": disk.total}
    return answer(found)


def _access(request: Request) -> Access:
    access: Access = request.app.state.handler.access
    return access


def _root(access: Access) -> Path:
    if access.root is None:
        raise InvalidInput("The gateway must have workspace_url for this. Got none. Set it in the Flow's YAML.")
    return access.root


def _with_tokens(access: Access, act: Callable[[TokenFile | TokenTable], Result]) -> Result:
    with closing(token_store(_root(access))) as store:
        return act(store)


def _tail(file: Path, limit: int) -> Iterator[dict[str, Any]]:
    """Yield the last lines of a log of JSON objects, newest first. Damaged lines are left out."""
    try:
        with open(file, "rb") as log:
            size = log.seek(0, 2)
            log.seek(max(0, size - TAIL_BYTES))
            lines = log.read().split(b"\n")[1 if size > TAIL_BYTES else 0 :]
    except FileNotFoundError:
        return
    for line in reversed(lines):
        try:
            found = json.loads(line)
        except ValueError:
            continue
        if limit and isinstance(found, dict):
            limit -= 1
            yield found
