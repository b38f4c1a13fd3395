"""Which Flow this process talks to."""

from __future__ import annotations

import os
from contextlib import suppress

from ..contract import environment, wire
from ..exceptions import Forbidden, Unauthorized
from ..transport.connection import DEFAULT_HOST, Connection
from .hub import point_hub, users_token
from .hub_executor import map_names

_current: Connection | None = None


def login(
    force: bool = False,
    interactive: bool | None = None,
    *,
    host: str | None = None,
    token: str | None = None,
    http_host: str | None = None,
) -> None:
    """Connect to a Flow; later calls of this module go there, and so do `DocumentArray.push` and `pull`.

    For DocArray, three variables of this process's environment are set, and stay: JINA_HUBBLE_REGISTRY (the Flow's
    HTTP side), JINA_AUTH_TOKEN (the token, or a placeholder where the Flow asks for none) and SHOW_HUBBLE_HINT
    ('NEVER', so that DocArray does not print about an account at Jina AI). No file is written. For Jina, the name
    `jinaai://finetuner/FinetunerExecutor` leads to our executor, and FINETUNER_LOGGED_IN tells it the host; see
    `hub_executor.py`.

    Args:
        force: ask the Flow again although this process is connected to it already.
        interactive: ask for a token on the terminal where the Flow wants one; None asks if there is a terminal.
        host: 'grpc://HOST:PORT'; else $FINETUNER_HOST, else grpc://127.0.0.1:51000.
        token: else $FINETUNER_TOKEN, else $JINA_AUTH_TOKEN as it was before `login`, else none.
        http_host: the HTTP side, 'http://HOST:PORT'; else $FINETUNER_HTTP, else the Flow is asked. Needed only where
            it is reached at another port than the one it listens on.

    Raises:
        FlowUnreachable: nothing answers there.
        Unauthorized: the Flow asks for another token.
    """
    global _current
    host = host or os.environ.get(environment.HOST) or DEFAULT_HOST
    token = token or os.environ.get(environment.TOKEN) or users_token()
    connection = Connection(host, token)
    same = _current is not None and (_current.host, _current.token) == (connection.host, connection.token)
    if same and not force and http_host is None:
        return
    try:
        _greet(connection)
    except Unauthorized:
        import getpass
        import sys

        if not (sys.stdin.isatty() if interactive is None else interactive):
            raise
        connection = Connection(host, getpass.getpass(f"Token for {host}: "))
        _greet(connection)
    point_hub(connection, http_host)
    map_names(connection)
    _current = connection


def _greet(connection: Connection) -> None:
    with suppress(Forbidden):  # a token that may only read is one, too
        connection.call(wire.EXPERIMENTS_CREATE, name="default")


def connection() -> Connection:
    """Return the connection that `login` made, or make it with the environment's settings."""
    if _current is None:
        login()
    assert _current is not None
    return _current


def get_token() -> str:
    """Return the token in use, '' for none."""
    return connection().token
