"""Failed requests as exceptions of `finetuner.exceptions`.

The gateway sends the class of each error by name: in gRPC's trailing metadata, and as `type` in the JSON body of an
HTTP error. An error without a name did not come from our gateway: nothing answers, TLS fails, or a proxy answers. Its
status decides.
"""

from __future__ import annotations

from typing import Any

from ..contract.environment import CA
from ..contract.wire import ANSWER_SECONDS, ERROR_METADATA
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
UNVERIFIED = "CERTIFICATE_VERIFY_FAILED"  # OpenSSL's own word


def of_grpc(error: Any, endpoint: str, host: str) -> FinetunerError:
    """Return the exception to raise for a `grpc.RpcError`.

    Args:
        error: from the call.
        endpoint: of the request.
        host: address of the Flow, for the message.
    """
    message, code = _line(error.details()), error.code().name
    name = dict(error.trailing_metadata() or ()).get(ERROR_METADATA)
    if name:
        return _named(str(name), message, endpoint, host)
    if code in CODES:
        return CODES[code](message)
    if code == "UNAVAILABLE":  # also a wrong certificate
        return unreached(message, host)
    if code == "UNIMPLEMENTED":
        return of_stranger(host, f"another gRPC service: {message[:MAX_MESSAGE]}")
    if code == "DEADLINE_EXCEEDED":
        message = f"no answer within {ANSWER_SECONDS:g} s"
    return of_room(message[:MAX_MESSAGE], endpoint, host)


def of_http(status: int, body: dict[str, Any], endpoint: str, host: str) -> FinetunerError:
    """Return the exception to raise for an HTTP answer.

    Args:
        status: of the answer.
        body: its JSON.
        endpoint: of the request.
        host: address of the Flow, for the message.
    """
    message = _line(body.get("detail") or body)
    if body.get("type"):
        return _named(str(body["type"]), message, endpoint, host)
    if status == 404:
        return unbound(endpoint, host)
    return of_room(message[:MAX_MESSAGE] or f"HTTP status {status}", endpoint, host)


def of_socket(error: Exception, endpoint: str, host: str) -> FinetunerError:
    """Return the exception to raise for an HTTP request without an answer."""
    message = _line(error) or type(error).__name__
    if isinstance(error, TimeoutError):
        return of_room(message[:MAX_MESSAGE], endpoint, host)
    if isinstance(error, OSError):
        return unreached(message, host)
    return of_stranger(host, f"no HTTP: {message[:MAX_MESSAGE]}")


def of_stranger(host: str, answered: str) -> FlowUnreachable:
    """Return the error for an answer that no gateway of ours gives.

    Args:
        host: address of the Flow.
        answered: description of the answer.
    """
    return FlowUnreachable(
        f"an Open Finetuner Flow must answer at {host}. Got {_line(answered)}. Check the host and port, and a proxy's "
        "settings."
    )


def of_room(message: str, endpoint: str, host: str) -> FinetunerServerError:
    """Return the error for a failure inside the Flow."""
    return FinetunerServerError(f"{endpoint} failed at {host}: {message}")


def unbound(endpoint: str, host: str) -> NotFound:
    """Return the error for an endpoint that no room of the Flow binds."""
    return NotFound(f"endpoint must be one that a room of the Flow at {host} binds. Got {endpoint!r}. Check its YAML.")


def _named(name: str, message: str, endpoint: str, host: str) -> FinetunerError:
    kind = by_name(name)
    return of_room(message, endpoint, host) if kind is FinetunerServerError else kind(message)


def unreached(message: str, host: str) -> FlowUnreachable:
    """Return the error for a host that does not answer, or whose certificate is not trusted."""
    if UNVERIFIED in message:
        return FlowUnreachable(
            f"the certificate of {host} must be for that name and from a known authority. It is not. "
            f"Set {CA} to a file with this certificate or its authority's."
        )
    reason = message.rpartition("last error: ")[2].rstrip(".")[:MAX_MESSAGE]
    return FlowUnreachable(
        f"a Flow must answer at {host}. None does: {reason}. Start one with `finetuner up`, or pass host=..."
    )


def _line(text: Any) -> str:
    return " ".join(str(text or "").split())
