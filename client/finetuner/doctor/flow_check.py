"""The Flow: whether its ports are free, and whether one that is up answers, is healthy, and takes the token."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from ..api.hub import users_token
from ..contract.environment import CA, HOST, HTTP, HTTP_PORT, TOKEN
from ..exceptions import FinetunerError, FlowUnreachable
from ..transport.connection import Connection
from ..transport.probes import Addresses, get, http_side, lives, probe, running
from ..workspace.tokens import TokenFile, digest_of
from .finding import Finding, failed, ok, warning

START = "Start it with `finetuner up`, or name another one with --host."
CERTIFICATE = f"Name the Flow with --host as its certificate does; ${CA} is a file with an own authority's."


def ports(root: Path, grpc_port: int, http_port: int) -> Iterator[Finding]:
    """See whether `finetuner up` would get its ports.

    Args:
        root: of the workspace, absolute.
        grpc_port: 0 for one that the system chooses.
        http_port: likewise.
    """
    where = running(root)
    known = [urlsplit(url).port for url in (where.grpc, where.http)] if where and lives(where.pid) else []
    for scheme, port in (("grpc", grpc_port), ("http", http_port)):
        name, reason = f"{scheme} port", _taken(port)
        if not port:
            yield ok(name, "the system chooses one")
        elif not reason:
            yield ok(name, f"{port} is free")
        elif port in known or _is_flow(f"{scheme}://127.0.0.1:{port}"):
            yield ok(name, f"{port} is in use by the Flow that is up")
        else:
            yield failed(
                name,
                f"{port} cannot be used: {reason}",
                f"Stop what listens there, or choose another with `finetuner up --{scheme}-port`; 0 lets the system "
                "choose.",
            )


def _taken(port: int) -> str:
    """Return why nothing new can listen on a port, '' where it can."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # one that only waits out old connections is free
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return error.strerror or str(error)
    return ""


def _is_flow(address: str) -> bool:
    """Return whether a Flow of ours answers, with or without a token."""
    with suppress(FinetunerError):
        if address.startswith("http"):
            return "status" in get(address, "/healthz")[1]
        said = probe(Connection(address))
        return said is None or HTTP_PORT in said
    return False


def flow(root: Path, host: str | None = None, token: str | None = None) -> Iterator[Finding]:
    """Ask the Flow that is named, or else the one of the workspace that is up; it is asked for no work.

    Args:
        root: of the workspace, absolute.
        host: as of `login`; else $FINETUNER_HOST, else `flow.json` of the workspace says it.
        token: else $FINETUNER_TOKEN, else $JINA_AUTH_TOKEN, as for `login`.
    """
    where = running(root)
    address = host or os.environ.get(HOST) or (where.grpc if where else "")
    if not address:
        yield ok("Flow", "not checked: no Flow was named, and none of this workspace is up")
        return
    own = where if where is not None and where.grpc == address else None
    secret = token or os.environ.get(TOKEN) or users_token()
    if broken := not (secret.isascii() and secret.isprintable()):  # gRPC's own error would show it
        secret = ""
        yield failed("token", "not sent: it holds other than visible ASCII characters", "Copy it again, as one line.")
    connection = Connection(address, secret)
    over_grpc = not connection.host.startswith("http")
    answers: dict[str, dict[str, str] | None] = {}
    try:
        answers = {shown: probe(Connection(address, shown)) for shown in dict.fromkeys(("", secret))}
        if over_grpc:
            yield ok("Flow, gRPC", f"{connection.host} answers")
    except FlowUnreachable as error:
        if over_grpc:
            yield _silent("Flow, gRPC", str(error), own)
    url = os.environ.get(HTTP) or (own.http if own else "") or http_side(connection, answers.get(secret) or {})
    if url:
        yield _health(url, own)
    else:
        yield ok("Flow, HTTP", f"not checked: the Flow did not say where it is; ${HTTP} can")
    if answers and not broken:
        yield _judged(answers, secret, root)


def _health(url: str, own: Addresses | None) -> Finding:
    """Return what /healthz says; with it the encoders encode a text and an image."""
    try:
        status, content = get(url, "/healthz")
    except FlowUnreachable as error:
        return _silent("Flow, HTTP", str(error), own)
    state, detail = content.get("status"), content.get("detail", "no reason is given")
    if not state:
        return failed("Flow, HTTP", f"{url}/healthz answers {status}, as no Flow of ours does", START)
    if status == 200 and state == "ok":
        return ok("Flow, HTTP", f"{url} is ok")
    advice = "Rooms that end are started again: look later, and into the output of `finetuner up` for why."
    return (warning if status == 200 else failed)("Flow, HTTP", f"{url} is {state}: {detail}", advice)


def _silent(name: str, reason: str, own: Addresses | None) -> Finding:
    """Return what is said of a Flow that does not answer; one that was killed has left its `flow.json`."""
    if "certificate" in reason.lower():
        # a certificate is for the name by which others know this machine, which `flow.json` does not
        return (failed if own is None else warning)(name, reason, CERTIFICATE)
    if own is None or lives(own.pid):
        return failed(name, reason, START)
    reason = f"{reason}; flow.json names process {own.pid}, which is gone"
    return warning(name, reason, "It was killed, or runs in another container. `finetuner up` starts it again.")


def _judged(answers: dict[str, dict[str, str] | None], secret: str, root: Path) -> Finding:
    """Return how the Flow has taken the token."""
    if answers[""] is not None:
        return ok("token", "the Flow asks for none")
    if not secret:
        advice = f"Pass --token or set ${TOKEN}; the Flow's owner makes one with `finetuner token create NAME`."
        return failed("token", "the Flow asks for one, and none was given", advice)
    known = ""
    with suppress(FinetunerError, OSError):  # on the Flow's machine it can be said whose token it is
        for token in TokenFile(root).read():
            if token.digest == digest_of(secret.encode()):
                until = (
                    "" if token.expires_at is None else time.strftime(", until %F", time.localtime(token.expires_at))
                )
                known = f": {token.name}, {token.role}, {token.state(time.time())}{until}"
    if answers[secret] is not None:
        return ok("token", f"the Flow takes it{known}")
    return failed("token", f"the Flow does not take it{known}", "Ask the Flow's owner for another one.")
