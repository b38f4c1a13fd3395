"""Fetching of URIs by client and server, from a real HTTP server that also misbehaves."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from email.message import Message
from pathlib import Path

import pytest

from finetuner.documents import uris
from finetuner.documents.uris import fetch, read_any_host, read_local, read_public
from finetuner.exceptions import ForbiddenUri, ImageTooLarge, InvalidDocument, UnreachableUri


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers each path with the method of its name."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        with suppress(OSError):  # the other side hangs up on purpose
            getattr(self, self.path.split("?")[0].strip("/").split("/")[0].replace("-", "_"))()

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def image(self) -> None:
        self.answer(200, f"{self.path} of {self.headers['Host']}".encode())

    def missing(self) -> None:
        self.answer(404)

    def redirect(self) -> None:
        self.answer(302, Location="/image")

    def headers_of(self) -> None:
        self.answer(200, repr(sorted((name.lower(), value) for name, value in self.headers.items())).encode())

    def to_another_host(self) -> None:
        self.answer(302, Location=f"http://localhost:{self.server.server_port}/headers-of")  # type: ignore[attr-defined]

    def wait(self) -> None:
        self.answer(429, Retry_After="7")

    def circle(self) -> None:
        self.answer(302, Location="/circle")

    def broken_redirect(self) -> None:
        self.answer(302, Location="http://[")

    def to_file(self) -> None:
        self.answer(302, Location="file:///etc/hostname")

    def large(self) -> None:
        self.answer(200, b"x" * 2000)

    def endless(self) -> None:
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        while True:
            self.wfile.write(b"x" * 1000)

    def short(self) -> None:
        self.answer(200, b"x" * 10, Content_Length="20", Connection="close")
        self.close_connection = True

    def silent(self) -> None:
        self.rfile.read(1)  # until the client hangs up

    def drip(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "1000000")
        self.end_headers()
        self.drop()

    def drip_headers(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        self.drop()

    def drip_until_closed(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.drop()

    def drop(self) -> None:
        while True:
            self.wfile.write(b"x")
            time.sleep(0.1)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.daemon_threads = True
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_a_web_address_is_read(server: str) -> None:
    host = server.removeprefix("http://")
    assert read_any_host(f"{server}/image?a=b") == f"/image?a=b of {host}".encode()
    assert read_local(f"{server}/image/ä b") == f"/image/%C3%A4%20b of {host}".encode()
    assert read_any_host(f"{server}/redirect") == f"/image of {host}".encode()
    assert read_any_host(server.replace("http://", "http://user:secret@") + "/image") == f"/image of {host}".encode()


@pytest.mark.parametrize(
    ("path", "kind", "expected"),
    [
        ("missing", UnreachableUri, "must answer 200. Got 404"),
        ("circle", UnreachableUri, "within 3 redirects. Got more"),
        ("broken-redirect", UnreachableUri, "must redirect to a web address"),
        ("to-file", ForbiddenUri, "must be http://, https:// or data: here. Got 'file:///etc/hostname'"),
        ("short", UnreachableUri, "must be reachable.*10 more expected"),
    ],
)
def test_an_answer_without_content_is_refused(
    server: str, path: str, kind: type[InvalidDocument], expected: str
) -> None:
    with pytest.raises(kind, match=expected) as caught:
        read_any_host(f"{server}/{path}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["large", "endless"])
def test_a_body_that_is_too_large_is_refused(server: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uris, "MAX_BYTES", 1000)
    with pytest.raises(ImageTooLarge, match="at most 1000 bytes. Got more"):
        read_any_host(f"{server}/{path}")


@pytest.mark.parametrize("path", ["silent", "drip", "drip-headers", "drip-until-closed"])
def test_a_slow_answer_is_abandoned_at_the_deadline(server: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uris, "SECONDS", 0.4)
    with pytest.raises(UnreachableUri, match="must answer within 0.4 s"):
        read_any_host(f"{server}/{path}")


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "localhost",
        "[::1]",
        "0.0.0.0",
        "[::]",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "[fe80::1]",
        "[fc00::1]",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::ffff:10.0.0.1]",
        "user@127.0.0.1",
        "224.0.0.1",
        "[64:ff9b::7f00:1]",
        "[64:ff9b::e000:1]",
        "[64:ff9b:1::7f00:1]",
        "[2002:7f00:1::]",
        "[fec0::1]",
        "[feff::1]",
        "[::127.0.0.1]",
        "[::ffff:0:127.0.0.1]",
        "[::ffff:0:8.8.8.8]",
        "[::8.8.8.8]",
        "[2001:0:7f00:1::]",
        "[100::1]",
        "[ff02::1]",
        "[4000::1]",
    ],
)
def test_a_server_never_fetches_a_private_address(server: str, host: str) -> None:
    port = server.rpartition(":")[2]
    with pytest.raises(ForbiddenUri, match="must be a public address. Got"):
        read_public(f"http://{host}:{port}/image")


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1", "64:ff9b::808:808", "2002:808:808::1"])
def test_a_public_address_is_one(address: str) -> None:
    assert uris._is_public(address)


def test_a_redirect_to_a_private_address_is_refused(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = uris._checked_address
    seen: list[str] = []

    def first_is_public(host: str, port: int, private: bool) -> str:
        seen.append(host)
        return checked(host, port, private or len(seen) == 1)

    monkeypatch.setattr(uris, "_checked_address", first_is_public)
    with pytest.raises(ForbiddenUri, match="must be a public address"):
        read_public(f"{server}/redirect")
    assert seen == ["127.0.0.1", "127.0.0.1"]


@pytest.mark.parametrize(
    "uri",
    [
        "file:///etc/hostname",
        "/etc/hostname",
        "ftp://example.com/x",
        "gopher://x",
        "http://",
        "http:///x",
        "http://[::1",
        "http://x:99999/",
        "",
        "relative.jpg",
        "http://no-such-host.invalid/x",
        "http://a" + "b" * 70 + ".com/",
    ],
)
def test_a_server_refuses_everything_but_the_web(uri: str) -> None:
    with pytest.raises(InvalidDocument, match="uri must be") as caught:
        read_public(uri)
    assert "\n" not in str(caught.value)


def test_a_client_reads_its_own_files(tmp_path: Path) -> None:
    path = tmp_path / "an image ä.jpg"
    path.write_bytes(b"content")
    assert read_local(str(path)) == read_local(path.as_uri()) == b"content"


@pytest.mark.parametrize("uri", ["/no/such/file.jpg", "/", "a\0b", "file://[", "x" * 5000])
def test_a_path_that_cannot_be_read_is_refused(uri: str) -> None:
    with pytest.raises(UnreachableUri, match="must be a readable file or a web address"):
        read_local(uri)


def test_a_closed_port_is_refused(unused_port: int) -> None:
    with pytest.raises(UnreachableUri, match="uri must be reachable"):
        read_any_host(f"http://127.0.0.1:{unused_port}/")


def test_headers_of_the_caller_stay_with_the_host(server: str) -> None:
    headers = {"user-agent": "shop", "X-Token": "secret"}
    sent = fetch(f"{server}/headers-of", private=True, headers=headers).decode()
    assert "('user-agent', 'shop')" in sent
    assert "secret" in sent
    assert "open-finetuner" not in sent
    elsewhere = fetch(f"{server}/to-another-host", private=True, headers=headers).decode()
    assert "secret" not in elsewhere
    assert "('user-agent', 'open-finetuner')" in elsewhere


def test_headers_of_an_answer_are_checked_before_it_is_read(server: str) -> None:
    def refuse(headers: Message) -> None:
        raise ForbiddenUri(f"length {headers['Content-Length']}")

    with pytest.raises(ForbiddenUri, match="length 20"):
        fetch(f"{server}/short", private=True, check=refuse)


def test_a_call_may_have_less_time(server: str) -> None:
    with pytest.raises(UnreachableUri, match="uri must answer within 0.3 s"):
        fetch(f"{server}/silent", private=True, seconds=0.3)


def test_a_refusal_has_its_status_and_its_wait(server: str) -> None:
    for path, answer, wait in (("wait", 429, 7), ("missing", 404, 0)):
        with pytest.raises(UnreachableUri) as caught:
            fetch(f"{server}/{path}", private=True)
        assert (caught.value.answer, caught.value.wait) == (answer, wait)
