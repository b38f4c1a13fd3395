"""HTTP's side of the door: requests without a token end before their body is read, and bodies have an end."""

from __future__ import annotations

import asyncio
import math
from urllib.parse import urlsplit

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from finetuner.contract.wire import MAX_MESSAGE_BYTES
from finetuner.exceptions import FinetunerError, Forbidden
from finetuner.workspace.tokens import is_loopback

from . import roles
from .access import Access, Entry, TooFast
from .metrics import GatewayMetrics

HUB_STATUS = {401: 40103, 403: 40301, 429: 50001}  # what hub clients look for in the body of a refusal
# These read their body piece by piece, and know themselves how much is too much.
STREAMED = frozenset({f"{roles.HUB}artifact.upload", "/v1/artifacts"})
BODY_SECONDS = 60.0


class HttpCheck:
    """Refuse requests without a token as 401, beyond its role as 403, and too many of them as 429. ASGI middleware.

    Routes find the request's `Entry` in `request.state.entry`. WebSockets are refused: there is none here.

    Args:
        app: what is behind the door.
        access: who may enter.
        metrics: counts refusals.
    """

    def __init__(self, app: ASGIApp, access: Access, metrics: GatewayMetrics) -> None:
        self._app = app
        self._access = access
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method, path, headers = scope["method"], scope["path"], Headers(scope=scope)
        needed = roles.of_page(method, path)
        if needed is None:
            await self._app(scope, receive, send)
            return
        entry, status = None, 500
        try:
            if not self._access.locked:
                _refuse_strangers(headers)
            entry = self._access.enter(headers.get("authorization"), "http", f"{method} {path}")
            entry.require(needed, f"{method} {path}")
        except FinetunerError as error:
            self._count(path, error)
            _close(entry, error.status)
            await _refusal(path, error)(scope, receive, send)
            return
        scope.setdefault("state", {})["entry"] = entry

        async def listen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, listen)
        finally:
            entry.close(lambda: status)

    def _count(self, path: str, error: FinetunerError) -> None:
        if error.status == 401:
            self._metrics.refused("http")
        else:
            self._metrics.answered("http", path, "refused")


def _close(entry: Entry | None, status: int) -> None:
    if entry is not None:
        entry.close(lambda: status)


def _refusal(path: str, error: FinetunerError) -> JSONResponse:
    reason = str(error)
    content: dict[str, object] = {"detail": reason}
    if path.startswith(roles.HUB):
        status = HUB_STATUS[error.status]
        content |= {"code": error.status, "status": status, "message": reason, "readableMessage": reason}
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}
    if isinstance(error, TooFast):
        headers["Retry-After"] = str(math.ceil(error.wait))
    return JSONResponse(content, error.status, headers=headers)


def _refuse_strangers(headers: Headers) -> None:
    """Refuse what a foreign web page makes a browser of this machine send, while there is no token.

    A browser names the page in `Origin`; a page whose own name was turned to 127.0.0.1 stands in `Host`.
    """
    host, origin = headers.get("host", ""), headers.get("origin")
    try:
        known = is_loopback(urlsplit(f"//{host}").hostname or "")
        if known and (origin is None or urlsplit(origin).netloc == host):
            return
    except ValueError:
        pass
    raise Forbidden(
        "Without a token this Flow answers its own machine alone, and no other site's pages. Got a request by "
        f"{host!r:.80} from {origin!r:.80}. Make a token with `finetuner token create NAME`."
    )


class Bounded:
    """Let a body have MAX_MESSAGE_BYTES, whatever route reads it, and not come slower than it may. ASGI middleware.

    Args:
        app: what is behind.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with a bounded body; reading too much of it raises HTTPException."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        left = math.inf if scope["path"] in STREAMED else MAX_MESSAGE_BYTES
        more = True

        async def bounded() -> Message:
            nonlocal left, more
            if not more:  # the caller waits for its answer
                return await receive()
            try:
                async with asyncio.timeout(BODY_SECONDS):
                    message = await receive()
            except TimeoutError:
                raise _cut(
                    408, f"A body must keep coming. Nothing came for {BODY_SECONDS:g} s. Send it again."
                ) from None
            more = bool(message.get("more_body"))
            left -= len(message.get("body", b""))
            if left < 0:
                text = f"A body may have {MAX_MESSAGE_BYTES} bytes. Got more. Send fewer documents in a request."
                raise _cut(413, text)
            return message

        await self._app(scope, bounded, send)


def _cut(status: int, detail: str) -> HTTPException:
    return HTTPException(status, detail, headers={"Connection": "close"})  # the rest of the body is not read
