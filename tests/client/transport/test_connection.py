"""Addresses of a Flow, certificates, and a Flow that does not answer."""

from __future__ import annotations

import asyncio
import gc
import threading
from pathlib import Path

import pytest

from finetuner.exceptions import FlowUnreachable, InvalidInput
from finetuner.transport import over_grpc
from finetuner.transport.connection import Connection


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


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Try again at once: nothing will listen."""
    monkeypatch.setattr(over_grpc, "PAUSES", (0,) * len(over_grpc.PAUSES))


@pytest.mark.usefixtures("short_pauses")
@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_dead_port_is_one_line(scheme: str, unused_port: int, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(FlowUnreachable, match=r"must answer at .*None does: .*refused.* Start one with") as caught:
        Connection(f"{scheme}://127.0.0.1:{unused_port}").call("/status")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("short_pauses")
def test_a_kept_error_leaves_no_thread_of_grpc_or_telemetry(unused_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JINA_OPTOUT_TELEMETRY", raising=False)
    gc.collect()
    before = set(threading.enumerate())
    gc.disable()  # it would hide a late release
    try:
        with pytest.raises(FlowUnreachable) as kept:
            Connection(f"grpc://127.0.0.1:{unused_port}").call("/status")
        for thread in set(threading.enumerate()) - before:
            thread.join(60)  # gRPC's thread may take a moment to end
            assert not thread.is_alive(), (thread, kept.value)
    finally:
        gc.enable()


@pytest.mark.usefixtures("short_pauses")
def test_an_error_reaches_a_caller_with_an_event_loop(unused_port: int) -> None:
    async def in_a_notebook() -> None:
        Connection(f"grpc://127.0.0.1:{unused_port}").call("/status")

    with pytest.raises(FlowUnreachable, match="a Flow must answer at"):
        asyncio.run(in_a_notebook())


def test_a_wrong_file_of_certificates_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text").write_text("no certificate")
    for file in ("nowhere", "text"):
        monkeypatch.setenv("FINETUNER_CA", str(tmp_path / file))
        with pytest.raises(InvalidInput, match=r"\$FINETUNER_CA must be a file of certificates, PEM\. Got .*"):
            Connection("grpcs://127.0.0.1:1")
        Connection("grpc://127.0.0.1:1")  # not read without TLS
