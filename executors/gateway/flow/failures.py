"""Exceptions as HTTP answers: `{"detail": sentence, "type": class}` with the exception's status."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from finetuner.exceptions import FinetunerError, FinetunerServerError, InvalidInput

from ..access.access import RateLimited
from ..access.errors import class_of, error_body, status_of
from .handler import Handler


class Refusal(NamedTuple):
    """The parts of an error's HTTP answer."""

    status: int
    body: dict[str, Any]
    headers: Mapping[str, str] | None = None


def refusal(handler: Handler, action: str, error: Exception) -> Refusal:
    """Return the answer for an error. An unexpected error also goes to the log, with its traceback.

    Args:
        handler: has the log.
        action: the part of the gateway that failed, for the log and the caller.
        error: of any kind.
    """
    match error:
        case ClientDisconnect():  # nobody reads this answer
            error = InvalidInput("A body must be complete. The caller hung up. Send it again.")
            return Refusal(error.status, error_body(error))
        case HTTPException():  # also FastAPI's, which is a subclass
            known = class_of(error.status_code)(str(error.detail))
            return Refusal(error.status_code, error_body(known), error.headers)
        case FinetunerError():
            wait = {"Retry-After": str(math.ceil(error.wait))} if isinstance(error, RateLimited) else None
            return Refusal(status_of(error), error_body(error), wait)
    handler.logger.error(f"{action} failed in the gateway", exc_info=error)
    unexpected = FinetunerServerError(f"{action} failed in the gateway: {error!r}. See the gateway's log.")
    return Refusal(500, error_body(unexpected))


def failure(handler: Handler, action: str, error: Exception) -> JSONResponse:
    """Return the JSON response for an error, see `refusal`."""
    status, body, headers = refusal(handler, action, error)
    return JSONResponse(body, status, headers=headers)


def outcome(status: int) -> str:
    """Return the outcome of an answer, as `GatewayMetrics` counts it."""
    if status < 400:
        return "ok"
    return "refused" if status < 500 else "failed"
