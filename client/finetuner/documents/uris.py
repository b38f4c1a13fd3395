"""Rules for fetching URIs: a client reads local files and the web, a server only public web addresses."""

from __future__ import annotations

import http.client
import ipaddress
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from email.message import Message
from functools import cache
from urllib.parse import quote, urljoin, urlsplit
from urllib.request import url2pathname

from ..exceptions import ForbiddenUri, ImageTooLarge, InvalidDocument, UnreachableUri
from .images import MAX_BYTES

SECONDS = 10.0
REDIRECTS = 3
NAT64, UNICAST = ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("2000::/3")
USER_AGENT = "open-finetuner"
SAFE = "%/:?#[]@!$&'()*+,;=~"  # characters that are valid in a URI unquoted

HeaderCheck = Callable[[Message], None]


def read_local(uri: str) -> bytes:
    """Read a local path or a web address; for the client, on the user's machine.

    Raises:
        UnreachableUri: no such file, or no answer.
        ImageTooLarge: an answer above MAX_BYTES.
    """
    if uri.startswith(("http://", "https://")):
        return fetch(uri, private=True)
    try:
        path = url2pathname(urlsplit(uri).path) if uri.startswith("file://") else os.path.expanduser(uri)  # noqa: PTH111
        with open(path, "rb") as file:
            return file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a null byte, or a malformed URL
        reason = error.strerror if isinstance(error, OSError) else error
        raise UnreachableUri(
            f"uri must be a readable file or a web address. Got {uri[:200]!r} ({reason}). Check the path."
        ) from error


def read_public(uri: str) -> bytes:
    """Fetch a public web address; for a server, which must not read its own files or private network.

    Raises:
        ForbiddenUri: not http(s), or a private address, also after a redirect.
        UnreachableUri: no answer, or too slow.
        ImageTooLarge: an answer above MAX_BYTES.
    """
    return fetch(uri, private=False)


def read_any_host(uri: str) -> bytes:
    """Fetch a public or private web address; for a server whose operator allows it."""
    return fetch(uri, private=True)


def fetch(
    uri: str,
    *,
    private: bool,
    seconds: float | None = None,
    headers: Mapping[str, str] | None = None,
    check: HeaderCheck | None = None,
) -> bytes:
    """Fetch a web address within the limits SECONDS, REDIRECTS and MAX_BYTES.

    The name is resolved once, every address is checked, and the connection uses a checked address. A name that
    resolves differently the second time gains nothing.

    Args:
        uri: http:// or https://.
        private: whether loopback, private and link-local addresses are allowed.
        seconds: for the whole call; None for SECONDS.
        headers: of the request; 'User-Agent' replaces our own. Another host, after a redirect, does not get them.
        check: is called with the headers of a good answer, before its content is read; may raise InvalidDocument.

    Raises:
        ForbiddenUri: not http(s), or a private address where they are not allowed.
        UnreachableUri: no answer, an error status, or too slow.
        ImageTooLarge: an answer above MAX_BYTES.
    """
    call = _Call(private, SECONDS if seconds is None else seconds, check)
    host = _host(uri)
    for _ in range(REDIRECTS + 1):
        own = dict(headers or {}) if _host(uri) == host else {}
        content, redirect = _fetch_once(uri, call, own)
        if redirect is None:
            return content
        try:
            uri = urljoin(uri, redirect)
        except ValueError as error:
            raise UnreachableUri(f"uri must redirect to a web address. Got {redirect[:80]!r}.") from error
    raise UnreachableUri(f"uri must answer within {REDIRECTS} redirects. Got more, at {uri!r}.")


class _Call:
    """The limits of one call of `fetch`."""

    def __init__(self, private: bool, seconds: float, check: HeaderCheck | None) -> None:
        self.private, self.seconds, self.check = private, seconds, check
        self.deadline = time.monotonic() + seconds


def _own_agent(headers: Mapping[str, str]) -> dict[str, str]:
    return {} if any(name.lower() == "user-agent" for name in headers) else {"User-Agent": USER_AGENT}


def _host(uri: str) -> str:
    try:
        return urlsplit(uri).netloc.rpartition("@")[2].lower()
    except ValueError:  # refused with its reason later
        return ""


def _fetch_once(uri: str, call: _Call, headers: Mapping[str, str]) -> tuple[bytes, str | None]:
    deadline = call.deadline
    try:
        parts = urlsplit(uri)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ForbiddenUri(
                f"uri must be http://, https:// or data: here. Got {uri[:80]!r}. Send the image as blob."
            )
        port = parts.port or (443 if parts.scheme == "https" else 80)
        address = _checked_address(parts.hostname, port, call.private)
        with _connected(address, port, parts.hostname, parts.scheme == "https", deadline) as sock:
            connection = http.client.HTTPConnection(parts.hostname, port)
            connection.sock = sock
            target = quote(parts.path or "/", safe=SAFE) + (f"?{quote(parts.query, safe=SAFE)}" if parts.query else "")
            host = parts.netloc.rpartition("@")[2].encode("idna" if not parts.netloc.isascii() else "ascii")
            connection.request("GET", target, headers={**_own_agent(headers), **headers, "Host": host})
            with connection.getresponse() as response:
                return _content(response, uri, call.check)
    except InvalidDocument:
        raise
    except (http.client.HTTPException, OSError, ValueError) as error:
        if time.monotonic() >= deadline:
            raise UnreachableUri(f"uri must answer within {call.seconds:g} s. {uri[:80]!r} did not.") from error
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise UnreachableUri(f"uri must be reachable. Got {uri[:80]!r} ({reason}). Send the image as blob.") from error


@contextmanager
def _connected(address: str, port: int, host: str, tls: bool, deadline: float) -> Iterator[socket.socket]:
    """Connect, and disconnect at the deadline. A timeout per read would let a server send single bytes for ever."""
    sock = socket.create_connection((address, port), timeout=max(deadline - time.monotonic(), 0.001))
    if tls:
        sock = _tls_context().wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
    disconnect = threading.Timer(max(deadline - time.monotonic(), 0), _shut_down, (sock,))
    disconnect.daemon = True
    disconnect.start()
    try:
        if isinstance(sock, ssl.SSLSocket):
            sock.do_handshake()
        yield sock
        if time.monotonic() >= deadline:
            raise TimeoutError  # the timer has cut the connection, so the content may be truncated
    finally:
        disconnect.cancel()
        sock.close()


@cache
def _tls_context() -> ssl.SSLContext:
    """Return the context of all connections; its certificates take 20 ms to read."""
    return ssl.create_default_context()


def _shut_down(sock: socket.socket) -> None:
    with suppress(OSError):  # closed already
        sock.shutdown(socket.SHUT_RDWR)


def _content(response: http.client.HTTPResponse, uri: str, check: HeaderCheck | None) -> tuple[bytes, str | None]:
    if response.status in (301, 302, 303, 307, 308):
        return b"", response.headers.get("Location", "")
    if response.status != 200:
        refused = UnreachableUri(f"uri must answer 200. Got {response.status} from {uri[:80]!r}.")
        refused.answer, refused.wait = response.status, _seconds(response.headers.get("Retry-After", ""))
        raise refused
    if check is not None:
        check(response.headers)
    content = response.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise ImageTooLarge(f"uri must hold at most {MAX_BYTES} bytes. Got more, at {uri[:80]!r}.")
    if response.length:
        raise http.client.IncompleteRead(content, response.length)
    return content, None


def _seconds(text: str) -> float:
    """Return the seconds of a Retry-After header; 0 for a date, which few servers send, and for anything else."""
    return float(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0.0


def _checked_address(host: str, port: int, private: bool) -> str:
    addresses = {str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)}
    if not private:
        for address in addresses:
            if not _is_public(address):
                raise ForbiddenUri(
                    f"uri must be a public address. Got {host!r}, which is {address}. Send the image as blob."
                )
    return sorted(addresses)[0]


def _is_public(address: str) -> bool:
    """Return whether an address belongs to the public internet.

    Of IPv6, only global unicast does. The rest of it has too many ways to write a private address: site-local ones, and
    IPv4 in several forms. An address that is translated to IPv4 is as public as that one.
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in NAT64:
            return _is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
        if ip not in UNICAST or (ip.sixtofour is not None and not _is_public(str(ip.sixtofour))):
            return False
    return ip.is_global and not ip.is_multicast
