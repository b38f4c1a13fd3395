"""Access control for HTTP: requests without a valid token end before their body is read, and bodies are bounded."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from finetuner.contract.wire import MAX_CONTROL_BYTES, MAX_MESSAGE_BYTES
from finetuner.exceptions import FinetunerError, Forbidden, InvalidInput
from finetuner.workspace.tokens import Role, is_loopback

from . import roles
from .access import PEER, Access, Entry, RateLimited, who
from .arriving import Arriving
from .errors import error_body
from .metrics import GatewayMetrics

HUB_STATUS = {401: 40103, 403: 40301, 429: 50001}  # hub clients read this number from the body
# These routes read their body in pieces, and bound it themselves.
STREAMED = frozenset({f"{roles.HUB}artifact.upload", "/v1/artifacts"})
STREAMED_PATHS = re.compile(r"/v1/(datasets|uploads)/[^/]+")
BODY_SECONDS = 60.0
SLOWEST = 2**14  # bytes per second
AT_LEAST = f"within {BODY_SECONDS:g} s and a second for each {SLOWEST} bytes"


class HttpCheck:
    """ASGI middleware that refuses requests without a token (401), with too small a role (403), or too many (429).

    Routes find the request's `Entry` in `request.state.entry`. WebSockets are refused: the gateway has none.

    Args:
        app: the app behind this middleware.
        access: the valid tokens.
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
        if "content-length" in headers and "transfer-encoding" in headers:
            # a proxy before us may read one of them, and take the rest of the body for another caller's request
            error = InvalidInput("A body must have Content-Length or Transfer-Encoding. Got both. Send one of them.")
            answer = JSONResponse(error_body(error), 400, headers={"Connection": "close"})
            await answer(scope, receive, send)
            return
        needed = roles.of_page(method, path)
        if needed is None:
            await self._app(scope, receive, send)
            return
        entry, status = None, 500
        PEER.set(str(scope.get("client")))
        try:
            if not self._access.locked:
                _refuse_foreign_pages(headers)
            entry = self._access.admit(headers.get("authorization"), "http", f"{method} {path}")
            entry.require(needed, f"{method} {path}")
        except FinetunerError as error:
            self._count(path, error)
            _close(entry, error.status)
            error = self._access.refusal(error, (scope.get("client") or ("",))[0])
            await _refusal(path, error)(scope, receive, send)
            return
        scope.setdefault("state", {})["entry"] = entry

        async def listen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._access.turns.take(who())
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


def _refusal(path: str, error: FinetunerError, headers: Mapping[str, str] | None = None) -> JSONResponse:
    content: dict[str, object] = {**error_body(error)}
    if path.startswith(roles.HUB):
        reason = content["detail"]
        status = HUB_STATUS[error.status]
        content |= {"code": error.status, "status": status, "message": reason, "readableMessage": reason}
    headers = {**(headers or {}), **({"WWW-Authenticate": "Bearer"} if error.status == 401 else {})}
    if isinstance(error, RateLimited):
        headers["Retry-After"] = str(math.ceil(error.wait))
    return JSONResponse(content, error.status, headers=headers)


def _refuse_foreign_pages(headers: Headers) -> None:
    """Refuse a request that a foreign web page makes a browser of this machine send, in a Flow without a token.

    A browser names the page in `Origin`. After DNS rebinding, the name of the page stands in `Host`.

    Raises:
        Forbidden
    """
    host, origin = headers.get("host", ""), headers.get("origin")
    try:
        known = is_loopback(urlsplit(f"//{host}").hostname or "")
        if known and (origin is None or urlsplit(origin).netloc == host):
            return
    except ValueError:
        pass
    raise Forbidden(
        "A Flow without a token answers only its own machine, and no page of another site. Got a request to "
        f"{host!r:.80} from {origin!r:.80}. Make a token with `finetuner token create NAME`."
    )


class Bounded:
    """ASGI middleware that bounds each body, all of them, and the time that they take, and ends work without a caller.

    Args:
        app: the app behind this middleware.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._arriving = Arriving()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, once its body has room. Reading it raises HTTPException past its bytes or its time.

        A request that needs more than `read` is finished without its caller: it may be half done.
        """
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        entry, most = scope.get("state", {}).get("entry"), _most_bytes(scope["path"])
        try:
            async with self._arriving.hold("" if entry is None else entry.caller.name, _held_bytes(scope, most)):
                await self._pass_on(scope, receive, send, most)
        except RateLimited as error:
            await _refusal(scope["path"], error, {"Connection": "close"})(scope, receive, send)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send, most: float) -> None:
        left, complete, gone = most, asyncio.Event(), asyncio.Event()
        seconds, clock = BODY_SECONDS, asyncio.get_running_loop().time  # what is left of the waiting

        async def bounded() -> Message:
            nonlocal left, seconds
            if complete.is_set():  # the caller waits for its answer
                await gone.wait()
                return {"type": "http.disconnect"}
            try:
                started = clock()
                async with asyncio.timeout(seconds):
                    message = await receive()
            except TimeoutError:
                raise _cut(408, f"A body must arrive {AT_LEAST}. Got less. Send it again.") from None
            if not message.get("more_body"):
                complete.set()
            left -= len(message.get("body", b""))
            seconds += len(message.get("body", b"")) / SLOWEST - (clock() - started)
            if left < 0:
                raise _cut(413, f"A body may have {most} bytes here. Got more. Send less per request.")
            return message

        async def watch() -> None:
            await complete.wait()
            while (await receive())["type"] != "http.disconnect":
                pass
            gone.set()
            entry = scope.get("state", {}).get("entry")
            if entry is None or entry.needed == Role.READ:
                work.cancel()

        async def answering(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.body" and not message.get("more_body"):
                watching.cancel()  # from here on, the server says that the caller has gone

        work = asyncio.ensure_future(self._app(scope, bounded, answering))
        watching = asyncio.create_task(watch())
        try:
            await work
        except asyncio.CancelledError:
            if not gone.is_set():  # the server stops
                work.cancel()
                raise
        finally:
            watching.cancel()


def _most_bytes(path: str) -> float:
    if path in STREAMED or STREAMED_PATHS.fullmatch(path):
        return math.inf
    return MAX_CONTROL_BYTES if path in roles.WITHOUT_DOCUMENTS else MAX_MESSAGE_BYTES


def _held_bytes(scope: Scope, most: float) -> int:
    """Return the bytes that a body may take in memory. Of a streamed one, a piece is held."""
    headers = Headers(scope=scope)
    length = headers.get("content-length", "")
    if most == math.inf or not (length or "transfer-encoding" in headers):
        return 0
    return int(min(int(length), most) if length.isdecimal() else most)


def _cut(status: int, detail: str) -> HTTPException:
    return HTTPException(status, detail, headers={"Connection": "close"})  # the rest of the body stays unread
