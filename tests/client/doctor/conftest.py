"""Fixtures and helpers for the tests of `finetuner doctor`."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from finetuner.doctor.finding import Finding
from finetuner.transport import probes


@pytest.fixture(autouse=True)
def no_flow_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unset the environment variables that name a Flow."""
    for name in [name for name in os.environ if name.startswith("FINETUNER_")] + ["JINA_AUTH_TOKEN"]:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the wait for ports that accept and never answer."""
    monkeypatch.setattr(probes, "SECONDS", 0.2)


def one(findings: Iterable[Finding], name: str = "") -> Finding:
    """Return the only finding, or the only one with a name."""
    (found,) = [finding for finding in findings if finding.name == name or not name]
    return found


@contextlib.contextmanager
def answering(state: str, token: str = "", status: int = 200) -> Iterator[str]:
    """Serve /healthz as a Flow does, and other paths to requests with the token. Yields the address."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            allowed = not token or self.headers.get("Authorization") == f"token {token}"
            healthz = self.path == "/healthz"
            self.send_response(status if healthz else 200 if allowed else 401)
            self.end_headers()
            detail = {"detail": "text encoder: no answer"} if state != "ok" else {}
            self.wfile.write(json.dumps({"status": state, **detail}).encode() if healthz else b"{}")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
