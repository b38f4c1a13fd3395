"""Holds the connection of this process to its Flow: `login` makes it, every other call uses it."""

from __future__ import annotations

import os
from contextlib import suppress

from ..contract import environment, wire
from ..exceptions import Forbidden, NotFound, ResourceExhausted, Unauthorized
from ..transport.connection import DEFAULT_HOST, Connection
from ..transport.probes import check_contract, probe
from .hub import point_hub, users_token
from .hub_executor import map_hub_name

_current: Connection | None = None


def login(
    force: bool = False,
    interactive: bool | None = None,
    *,
    host: str | None = None,
    token: str | None = None,
    http_host: str | None = None,
) -> None:
    """Connect to a Flow. All later calls of `finetuner` use it, and so do `DocumentArray.push` and `pull`.

    For DocArray, this call sets three environment variables of this process: JINA_HUBBLE_REGISTRY (the Flow's HTTP
    address), JINA_AUTH_TOKEN (the token, or a placeholder if there is none) and SHOW_HUBBLE_HINT ('NEVER', which stops
    DocArray's messages about accounts at Jina AI). For Jina, the name `jinaai://finetuner/FinetunerExecutor` then means
    our executor, which reads the host from FINETUNER_LOGGED_IN; see `hub_executor.py`. The call writes no files.

    Args:
        force: connect again even if this process is connected to the same Flow already.
        interactive: whether to prompt for a token if the Flow refuses the given one; None prompts on a terminal only.
        host: 'grpc://HOST:PORT' (or grpcs, http, https); None takes $FINETUNER_HOST, else grpc://127.0.0.1:51000.
        token: None takes $FINETUNER_TOKEN, else $JINA_AUTH_TOKEN as it was before the first `login`, else no token.
        http_host: address of the Flow's HTTP side, 'http://HOST:PORT'; None takes $FINETUNER_HTTP, else the Flow's own
            report. Needed only if a proxy or container maps the HTTP port to another one.

    Raises:
        FlowUnreachable: no Flow answers at the host, or another service does.
        FinetunerError: client and Flow have different versions of the wire contract.
        Unauthorized: the Flow requires another token.
        InvalidInput: an address is malformed.
    """
    global _current
    host = host or os.environ.get(environment.HOST) or DEFAULT_HOST
    token = token or os.environ.get(environment.TOKEN) or users_token()
    connection = Connection(host, token)
    unchanged = _current is not None and (_current.host, _current.token) == (connection.host, connection.token)
    if unchanged and not force and http_host is None:
        return
    _check_contract(connection)
    try:
        _check_access(connection)
    except Unauthorized:
        import getpass
        import sys

        if not (sys.stdin.isatty() if interactive is None else interactive):
            raise
        connection = Connection(host, getpass.getpass(f"Token for {host}: "))
        _check_access(connection)
        _check_contract(connection)
    point_hub(connection, http_host)
    map_hub_name(connection)
    _current = connection


def _check_contract(connection: Connection) -> None:
    with suppress(Forbidden, ResourceExhausted):
        reported = probe(connection)
        if reported is not None:  # otherwise the Flow needs another token
            check_contract(connection.host, reported)


def _check_access(connection: Connection) -> None:
    with suppress(Forbidden, NotFound):  # a token that may only read is valid, too, and a Flow without a trainer
        connection.call(wire.EXPERIMENTS_CREATE, name="default")


def connection() -> Connection:
    """Return the connection that `login` made; without a login, log in with the settings of the environment."""
    if _current is None:
        login()
    assert _current is not None
    return _current


def use(made: Connection) -> None:
    """Let all later calls of this process use a connection that the caller has made, instead of `login`."""
    global _current
    _current = made


def get_token() -> str:
    """Return the token of the current connection, '' for none."""
    return connection().token
