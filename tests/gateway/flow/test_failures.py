"""Bad requests leave few lines in the log."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import pytest

from tests.gateway.conftest import TOKEN, ToyFlow

HEAD = f"POST /encode HTTP/1.1\r\nHost: localhost\r\nAuthorization: token {TOKEN}\r\nContent-Length: 90\r\n\r\n"


@pytest.mark.parametrize(
    ("content", "most"), [(b"no HTTP\r\n\r\n", 2000), (HEAD.encode() + b"{", 0)], ids=["no HTTP", "half a body"]
)
def test_bad_requests_do_not_fill_the_log(locked_flow: ToyFlow, content: bytes, most: int) -> None:
    address = urlsplit(locked_flow.http)
    before = locked_flow.log.stat().st_size
    for _ in range(200):
        with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass
    assert locked_flow.log.stat().st_size - before <= most, locked_flow.log.read_text()[before:]
