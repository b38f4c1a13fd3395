"""Errors of Jina's client as exceptions of `finetuner.exceptions`.

The gateway sends the class of each error by name: in gRPC's trailing metadata, and as `type` in the JSON body of an
HTTP error. An error without a name did not come from our gateway: nothing answers, TLS fails, or a proxy answers. Its
gRPC status, or the type of Jina's exception, decides.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ..contract.environment import CA
from ..contract.wire import ERROR_METADATA
from ..exceptions import (
    FinetunerError,
    FinetunerServerError,
    FlowUnreachable,
    Forbidden,
    NotFound,
    Unauthorized,
    by_name,
)

MAX_MESSAGE = 500  # characters
CODES: dict[str, type[FinetunerError]] = {"UNAUTHENTICATED": Unauthorized, "PERMISSION_DENIED": Forbidden}


class Failure(NamedTuple):
    """An error of Jina's client, read."""

    message: str
    """One line."""
    name: str = ""
    """The class that the gateway named, '' for none."""
    code: str = ""
    """Name of the gRPC status, '' without one."""


def translated(error: Exception, endpoint: str, host: str) -> FinetunerError:
    """Return the exception to raise for an error of Jina's client.

    Args:
        error: from `jina.Client.post`.
        endpoint: of the request.
        host: address of the Flow, for the message.
    """
    import aiohttp
    from jina.excepts import BadClient

    failure = _read(error)
    kind = by_name(failure.name) if failure.name else CODES.get(failure.code)
    if kind not in (None, FinetunerServerError):
        return kind(failure.message)
    if failure.name:
        return FinetunerServerError(f"{endpoint} failed at {host}: {failure.message}")
    # OpenSSL's own word. gRPC reports a wrong certificate as UNAVAILABLE, like a port where nothing listens.
    if "CERTIFICATE_VERIFY_FAILED" in failure.message:
        return FlowUnreachable(
            f"the certificate of {host} must be for that name and from a known authority. It is not. "
            f"Set {CA} to a file with this certificate or its authority's."
        )
    unreached = isinstance(error, ConnectionError | aiohttp.ClientConnectionError) and not failure.code
    if unreached or failure.code == "UNAVAILABLE":
        return FlowUnreachable(
            f"a Flow must answer at {host}. None does. Start one with `finetuner up`, or pass host=..."
        )
    if type(error) is BadClient:  # from Jina's HTTP client for every 404, without the body
        return unbound(endpoint, host)
    return FinetunerServerError(f"{endpoint} failed at {host}: {failure.message[:MAX_MESSAGE]}")


def unbound(endpoint: str, host: str) -> NotFound:
    """Return the error for an endpoint that no room of the Flow binds."""
    return NotFound(f"endpoint must be one that a room of the Flow at {host} binds. Got {endpoint!r}. Check its YAML.")


def _read(error: Exception) -> Failure:
    import grpc
    from jina.excepts import BadServer

    cause: BaseException | None = error
    while cause is not None:  # Jina raises another exception and keeps gRPC's as its cause or context
        if isinstance(cause, grpc.aio.AioRpcError):
            name = (cause.trailing_metadata() or {}).get(ERROR_METADATA) or ""
            return Failure(_line(cause.details()), str(name), cause.code().name)
        cause = cause.__cause__ or cause.__context__
    content: Any = error.args[0] if error.args else None
    if isinstance(error, ValueError) and isinstance(content, dict):  # Jina's HTTP client keeps only the JSON body
        return Failure(_line(content.get("detail")), str(content.get("type", "")))
    if (
        isinstance(error, BadServer) and content is not None and hasattr(content, "status")
    ):  # an answer whose header holds a room's exception
        return Failure(_line(content.status.description))
    return Failure(_line(error))


def _line(text: Any) -> str:
    return " ".join(str(text or "").split())


def free_channel(error: BaseException | None) -> None:
    """Free gRPC's channel, which the frames of an error's traceback hold as long as the error itself exists.

    A process that is forked while a channel exists, as the rooms of a Flow are, waits for a thread that it does not
    have.
    """
    while error is not None and error.__traceback__ is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__
