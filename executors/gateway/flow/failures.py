"""Exceptions as answers: `{"detail": sentence}` with the status that the exception's class has."""

from __future__ import annotations

from fastapi import HTTPException
from fastapi.responses import JSONResponse

from finetuner.exceptions import FinetunerError, FinetunerServerError

from .handler import Handler


def failure(handler: Handler, what: str, error: Exception) -> JSONResponse:
    """Return the answer for an error; what we did not expect goes to the log, whole.

    Args:
        handler: has the log.
        what: failed, for the log and the caller.
        error: of any kind.
    """
    match error:
        case HTTPException():
            return JSONResponse({"detail": error.detail}, error.status_code, headers=error.headers)
        case FinetunerServerError():
            return JSONResponse({"detail": str(error)}, error.code)
        case FinetunerError():
            return JSONResponse({"detail": str(error)}, error.status)
    handler.logger.error(f"{what} failed in the gateway", exc_info=error)
    return JSONResponse({"detail": f"{what} failed in the gateway: {error!r}. See its log."}, 500)


def outcome(status: int) -> str:
    """Return how `GatewayMetrics` calls an answer of this status."""
    if status < 400:
        return "ok"
    return "refused" if status < 500 else "failed"
