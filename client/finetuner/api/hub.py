"""DocArray's hub client, pointed at our Flow: `DocumentArray.push` and `pull` go to its gateway."""

from __future__ import annotations

import logging
import os
from urllib.parse import urlsplit

from ..contract.environment import HTTP
from ..exceptions import FlowUnreachable, InvalidInput, ResourceExhausted
from ..transport.connection import Connection
from ..transport.probes import http_side, probe

ADDRESS, TOKEN, HINT = "JINA_HUBBLE_REGISTRY", "JINA_AUTH_TOKEN", "SHOW_HUBBLE_HINT"
NO_TOKEN = "this-flow-asks-for-none"  # DocArray sends nothing without a token

log = logging.getLogger("finetuner")

_users_token = ""  # what $JINA_AUTH_TOKEN held before we wrote into it
_written = ""


def users_token() -> str:
    """Return $JINA_AUTH_TOKEN as the user has set it, '' for none; not what `point_hub` wrote there."""
    token = os.environ.get(TOKEN, "")
    if token == NO_TOKEN:
        return ""
    return _users_token if token == _written else token


def point_hub(connection: Connection, http_host: str | None = None) -> None:
    """Let DocArray's hub client of this process talk to the Flow; changes os.environ and nothing else.

    Args:
        connection: to the Flow, which answers.
        http_host: the address of its HTTP side; else $FINETUNER_HTTP, else `connection`'s where that is HTTP, else
            the Flow is asked. Where it has no HTTP side, the environment stays as it is, with a warning in the log.

    Raises:
        InvalidInput: an address that is not http(s).
    """
    global _users_token, _written
    given = http_host or os.environ.get(HTTP)
    address = _checked(given) if given else _asked(connection)
    if not address:
        log.warning(
            "The Flow at %s does not say where its HTTP side is, so DocumentArray.push and pull do not reach it. "
            "Pass login(http_host='http://HOST:PORT').",
            connection.host,
        )
        return
    _users_token = users_token()
    _written = connection.token or NO_TOKEN
    os.environ.update({ADDRESS: address, TOKEN: _written, HINT: "NEVER"})


def _checked(address: str) -> str:
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidInput(f"http_host must be like http://127.0.0.1:51001. Got {address!r}.")
    return address.rstrip("/")


def _asked(connection: Connection) -> str:
    """Return the address of the Flow's HTTP side, '' where it does not say it."""
    if connection.host.startswith("http"):
        return http_side(connection, {})
    try:
        return http_side(connection, probe(connection) or {})
    except (FlowUnreachable, ResourceExhausted):
        return ""
