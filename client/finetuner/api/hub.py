"""Points DocArray's hub client at our Flow: `DocumentArray.push` and `pull` then use its gateway."""

from __future__ import annotations

import logging
import os
from urllib.parse import urlsplit

from ..contract.environment import HTTP
from ..exceptions import FlowUnreachable, InvalidInput, ResourceExhausted
from ..transport.connection import Connection
from ..transport.probes import http_side, probe

ADDRESS, TOKEN, HINT = "JINA_HUBBLE_REGISTRY", "JINA_AUTH_TOKEN", "SHOW_HUBBLE_HINT"
NO_TOKEN = "this-flow-asks-for-none"  # placeholder: DocArray sends no request without a token

log = logging.getLogger("finetuner")

_users_token = ""  # value of $JINA_AUTH_TOKEN before `point_hub` replaced it
_written = ""  # value that `point_hub` put there


def users_token() -> str:
    """Return $JINA_AUTH_TOKEN as the user set it, '' for none; never the value that `point_hub` wrote there."""
    token = os.environ.get(TOKEN, "")
    if token == NO_TOKEN:
        return ""
    return _users_token if token == _written else token


def point_hub(connection: Connection, http_host: str | None = None) -> None:
    """Point this process's DocArray hub client at the Flow. Changes only os.environ.

    The HTTP address comes from the first of these sources: `http_host`, $FINETUNER_HTTP, the host of `connection` if
    that is HTTP, and the Flow's own report. If none has an address, the environment stays unchanged and the log
    gets a warning.

    Args:
        connection: connection to a Flow that is up.
        http_host: address of the Flow's HTTP side, or None.

    Raises:
        InvalidInput: the address is not http(s).
    """
    global _users_token, _written
    given = http_host or os.environ.get(HTTP)
    address = _checked(given) if given else _reported(connection)
    if not address:
        log.warning(
            "The Flow at %s does not report the address of its HTTP side, so DocumentArray.push and pull cannot reach "
            "it. Pass login(http_host='http://HOST:PORT').",
            connection.host,
        )
        return
    _users_token = users_token()
    _written = connection.token or NO_TOKEN
    os.environ.update({ADDRESS: address, TOKEN: _written, HINT: "NEVER"})


def _checked(address: str) -> str:
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidInput(f"http_host must be like http://127.0.0.1:51001. Got {address!r}. Correct the address.")
    return address.rstrip("/")


def _reported(connection: Connection) -> str:
    """Return the address of the Flow's HTTP side, '' if the Flow does not report it."""
    if connection.host.startswith("http"):
        return http_side(connection, {})
    try:
        return http_side(connection, probe(connection) or {})
    except (FlowUnreachable, ResourceExhausted):
        return ""
