"""Addresses, and one kind of error for each way in which a Flow does not answer."""

from __future__ import annotations

import gc
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from finetuner.exceptions import (
    FinetunerServerError,
    FlowUnreachable,
    Forbidden,
    InvalidInput,
    ResourceExhausted,
    Unauthorized,
)
from finetuner.transport.connection import Connection


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers as the gateway does to a wrong token, or as something that is no Flow."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        wrong = self.headers.get("Authorization") != "token right"
        status, detail = (401, "This Flow asks for a token. Got none.") if wrong else (500, "boom")
        content = json.dumps({"detail": detail}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def gateway() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("grpc://127.0.0.1:51000", "grpc://127.0.0.1:51000"),
        ("flow.example.com:443", "grpc://flow.example.com:443"),
        ("https://flow.example.com:443", "https://flow.example.com:443"),
        ("grpcs://[::1]:1", "grpcs://[::1]:1"),
    ],
)
def test_an_address_is_read(host: str, address: str) -> None:
    connection = Connection(host, "secret")
    assert connection.host == address
    assert "secret" not in repr(connection)


@pytest.mark.parametrize(
    "host", ["", "localhost", "grpc://localhost", "ftp://x:1", "grpc://:1", "x:99999", "x:port", "grpc://[::1", "a b"]
)
def test_another_address_is_refused(host: str) -> None:
    with pytest.raises(InvalidInput, match="host must be like grpc://127.0.0.1:51000.*Got") as caught:
        Connection(host)
    assert repr(host) in str(caught.value)


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_dead_port_is_one_line(scheme: str, unused_port: int, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FlowUnreachable, match=r"must answer at .*None does. Start one with `finetuner up`") as caught:
        Connection(f"{scheme}://127.0.0.1:{unused_port}").call("/status")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_an_error_that_is_kept_leaves_no_thread_of_grpc_or_telemetry(
    unused_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JINA_OPTOUT_TELEMETRY", raising=False)
    gc.collect()
    before = set(threading.enumerate())
    gc.disable()  # it would hide what is freed late
    try:
        with pytest.raises(FlowUnreachable) as kept:
            Connection(f"grpc://127.0.0.1:{unused_port}").call("/status")
        for thread in set(threading.enumerate()) - before:
            thread.join(60)  # gRPC's has been told to end, and may be about to
            assert not thread.is_alive(), (thread, kept.value)
    finally:
        gc.enable()


def test_a_wrong_token_and_a_failing_flow_are_told_apart(gateway: str, capfd: pytest.CaptureFixture[str]) -> None:
    for token in ("", "wrong"):
        with pytest.raises(Unauthorized, match="token must be the one that the Flow at .* asks for"):
            Connection(gateway, token).call("/status")
    with pytest.raises(FinetunerServerError, match="/status failed at .*boom"):
        Connection(gateway, "right").call("/status")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("code", "detail", "kind"),
    [
        ("UNAUTHENTICATED", "This Flow asks for a token.", Unauthorized),
        ("PERMISSION_DENIED", "role must be write for '/fit'. Got read, of the token 'ci'.", Forbidden),
        ("RESOURCE_EXHAUSTED", "requests of a token must be fewer a second. Try again in 0.2 s.", ResourceExhausted),
        ("RESOURCE_EXHAUSTED", "Received message larger than max", FinetunerServerError),
        ("UNAVAILABLE", "|Gateway: Communication error with deployment trainer at address(es) ...", FlowUnreachable),
        ("UNAVAILABLE", "failed to connect: ipv4:127.0.0.1:40188", FlowUnreachable),
        ("INTERNAL", "boom", FinetunerServerError),
    ],
)
def test_what_a_gateway_refuses(code: str, detail: str, kind: type[Exception]) -> None:
    flow = Connection("127.0.0.1:1")
    by_grpc, with_metadata = (
        flow._translated("/fit", ConnectionError(f"gRPC error: StatusCode.{code} {detail}\n{metadata}"))
        for metadata in ("None", "trailing_metadata=Metadata((('jina-client-attempts', '1'),))")
    )
    assert type(by_grpc) is kind
    assert "\n" not in str(by_grpc)
    assert str(with_metadata) == str(by_grpc)
    if kind in (Forbidden, ResourceExhausted):
        by_http = flow._translated("/fit", ValueError({"detail": detail}))
        assert (type(by_http), str(by_http), str(by_grpc)) == (kind, detail, detail)
    if "trainer" in detail:
        assert "trainer must answer /fit" in str(by_grpc)


def test_a_file_of_authorities_that_is_none_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text").write_text("no certificate")
    for file in ("nowhere", "text"):
        monkeypatch.setenv("FINETUNER_CA", str(tmp_path / file))
        with pytest.raises(InvalidInput, match=r"\$FINETUNER_CA must be a file of certificates, PEM\. Got .*"):
            Connection("grpcs://127.0.0.1:1")
        Connection("grpc://127.0.0.1:1")  # without TLS nobody looks
