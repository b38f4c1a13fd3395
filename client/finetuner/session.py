"""Which Flow this process talks to."""

from __future__ import annotations

import os

from . import wire
from .connection import DEFAULT_HOST, Connection
from .exceptions import Unauthorized

_current: Connection | None = None


def login(
    force: bool = False, interactive: bool | None = None, *, host: str | None = None, token: str | None = None
) -> None:
    """Connect to a Flow; later calls of this module go there.

    Args:
        force: ask the Flow again although this process is connected to it already.
        interactive: ask for a token on the terminal where the Flow wants one; None asks if there is a terminal.
        host: 'grpc://HOST:PORT'; else $FINETUNER_HOST, else grpc://127.0.0.1:51000.
        token: else $FINETUNER_TOKEN, else $JINA_AUTH_TOKEN, else none.

    Raises:
        FlowUnreachable: nothing answers there.
        Unauthorized: the Flow asks for another token.
    """
    global _current
    host = host or os.environ.get("FINETUNER_HOST") or DEFAULT_HOST
    token = token or os.environ.get("FINETUNER_TOKEN") or os.environ.get("JINA_AUTH_TOKEN") or ""
    connection = Connection(host, token)
    same = _current is not None and (_current.host, _current.token) == (connection.host, connection.token)
    if same and not force:
        return
    try:
        connection.call(wire.EXPERIMENTS_CREATE, name="default")
    except Unauthorized:
        import getpass
        import sys

        if not (sys.stdin.isatty() if interactive is None else interactive):
            raise
        connection = Connection(host, getpass.getpass(f"Token for {host}: "))
        connection.call(wire.EXPERIMENTS_CREATE, name="default")
    _current = connection


def connection() -> Connection:
    """Return the connection that `login` made, or make it with the environment's settings."""
    if _current is None:
        login()
    assert _current is not None
    return _current


def get_token() -> str:
    """Return the token in use, '' for none."""
    return connection().token
