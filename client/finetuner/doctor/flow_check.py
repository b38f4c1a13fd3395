"""Checks the ports of a Flow, and the answers, health and token of a running one."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import urlsplit

from ..api.hub import users_token
from ..contract.environment import CA, HOST, HTTP, HTTP_PORT, TOKEN
from ..database.tokens import token_store
from ..exceptions import FinetunerError, FlowUnreachable
from ..transport.connection import Connection
from ..transport.probes import Addresses, check_contract, get, http_side, lives, probe, running
from ..workspace.tokens import Token, digest_of
from .finding import Finding, failed, ok, warning

START = "Start it with `finetuner up`, or choose another Flow with --host."
CERTIFICATE = f"Set --host to a name in the Flow's certificate. For your own authority set ${CA} to its file."


def ports(root: Path, grpc_port: int, http_port: int) -> Iterator[Finding]:
    """Check that `finetuner up` can use its ports.

    Args:
        root: absolute path of the workspace.
        grpc_port: 0 lets the system choose one.
        http_port: likewise.
    """
    own = running(root)
    known = [urlsplit(url).port for url in (own.grpc, own.http)] if own and lives(own.pid) else []
    for scheme, port in (("grpc", grpc_port), ("http", http_port)):
        name, reason = f"{scheme} port", _bind_error(port)
        if not port:
            yield ok(name, "the system chooses one")
        elif not reason:
            yield ok(name, f"{port} is free")
        elif port in known or _is_flow(f"{scheme}://127.0.0.1:{port}"):
            yield ok(name, f"{port} is in use by a running Flow")
        else:
            yield failed(
                name,
                f"{port} cannot be used: {reason}",
                f"Stop the program that uses it, or set another with `finetuner up --{scheme}-port`. 0 lets the system "
                "choose.",
            )


def _bind_error(port: int) -> str:
    """Return the error of listening on a port, '' if it is free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port in TIME_WAIT counts as free
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return error.strerror or str(error)
    return ""


def _is_flow(address: str) -> bool:
    """Return whether a Flow answers at an address, even if it needs a token."""
    with suppress(FinetunerError):
        if address.startswith("http"):
            return "status" in get(address, "/healthz")[1]
        answer = probe(Connection(address))
        return answer is None or HTTP_PORT in answer
    return False


def flow(root: Path, host: str | None = None, token: str | None = None) -> Iterator[Finding]:
    """Check a Flow: its answers, health and token. The check starts no run and changes nothing.

    Args:
        root: absolute path of the workspace.
        host: as in `login`. Defaults to $FINETUNER_HOST, then to `flow.json` of the workspace.
        token: as in `login`. Defaults to $FINETUNER_TOKEN, then to $JINA_AUTH_TOKEN.
    """
    addresses = running(root)
    address = host or os.environ.get(HOST) or (addresses.grpc if addresses else "")
    if not address:
        yield ok("Flow", f"not checked: neither --host nor ${HOST} is set, and no Flow of this workspace is running")
        return
    own = addresses if addresses is not None and addresses.grpc == address else None
    secret = token or os.environ.get(TOKEN) or users_token()
    if broken := not (secret.isascii() and secret.isprintable()):  # the error of gRPC would print it
        secret = ""
        yield failed("token", "not sent: it has characters other than printable ASCII", "Copy it again, as one line.")
    connection = Connection(address, secret)
    over_grpc = not connection.host.startswith("http")
    answers: dict[str, dict[str, str] | None] = {}
    try:
        answers = {given: probe(Connection(address, given)) for given in dict.fromkeys(("", secret))}
        if over_grpc:
            if (reported := answers[secret] if answers[""] is None else answers[""]) is not None:
                check_contract(connection.host, reported)
            yield ok("Flow, gRPC", f"{connection.host} answers")
    except FlowUnreachable as error:
        if over_grpc:
            yield _unreachable("Flow, gRPC", str(error), own)
    except FinetunerError as error:
        yield failed("Flow, gRPC", str(error), "Client and Flow of one version understand one another.")
    url = os.environ.get(HTTP) or (own.http if own else "") or http_side(connection, answers.get(secret) or {})
    if url:
        yield _health(url, own)
    else:
        yield ok("Flow, HTTP", f"not checked: its address is unknown, set ${HTTP}")
    if answers and not broken:
        yield _token(answers, secret, root)


def _health(url: str, own: Addresses | None) -> Finding:
    """Check /healthz, for which the encoders encode a text and an image."""
    try:
        status, content = get(url, "/healthz")
    except FlowUnreachable as error:
        return _unreachable("Flow, HTTP", str(error), own)
    state, detail = content.get("status"), content.get("detail", "no reason given")
    if not state:
        return failed("Flow, HTTP", f"{url}/healthz answers {status} without a status, unlike a Flow", START)
    if status == 200 and state == "ok":
        return ok("Flow, HTTP", f"{url} is ok")
    advice = "Rooms that stop are restarted. Check again later, and read the reason in the output of `finetuner up`."
    return (warning if status == 200 else failed)("Flow, HTTP", f"{url} is {state}: {detail}", advice)


def _unreachable(name: str, reason: str, own: Addresses | None) -> Finding:
    """Return the finding for a Flow that does not answer. A killed Flow leaves its `flow.json` behind."""
    if "certificate" in reason.lower():
        # a certificate holds the machine's public name, and `flow.json` a local address
        return (failed if own is None else warning)(name, reason, CERTIFICATE)
    if own is None or lives(own.pid):
        return failed(name, reason, START)
    reason = f"{reason}; process {own.pid} of flow.json no longer exists"
    return warning(name, reason, "It was killed, or runs in another container. Start it again with `finetuner up`.")


def _token(answers: dict[str, dict[str, str] | None], secret: str, root: Path) -> Finding:
    """Check that the Flow accepts the token.

    Args:
        answers: of the gateway by token, '' for none. None means that it refused the token.
        secret: the token, '' for none.
        root: absolute path of the workspace.
    """
    if answers[""] is not None:
        return ok("token", "the Flow needs none")
    if not secret:
        advice = f"Pass --token or set ${TOKEN}. The Flow's owner creates one with `finetuner token create NAME`."
        return failed("token", "the Flow needs one, and none is set", advice)
    owner = ""
    with suppress(FinetunerError, OSError):  # on the Flow's machine the workspace knows the owner of the token
        for token in _known_tokens(root):
            if token.digest == digest_of(secret.encode()):
                until = (
                    "" if token.expires_at is None else time.strftime(", until %F", time.localtime(token.expires_at))
                )
                owner = f": {token.name}, {token.role}, {token.state(time.time())}{until}"
    if answers[secret] is not None:
        return ok("token", f"the Flow accepts it{owner}")
    return failed("token", f"the Flow refuses it{owner}", "Ask the Flow's owner for another one.")


def _known_tokens(root: Path) -> list[Token]:
    with closing(token_store(root)) as store:
        return store.read()
