"""A web server of images that misbehaves by path, and counts what it is asked."""

from __future__ import annotations

import http.server
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress


class LinkServer(http.server.ThreadingHTTPServer):
    """Answers `/KIND/NUMBER` with the image of that number, as KIND says; see `_Handler`."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, image: Callable[[int], bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.image = image
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.asked: Counter[str] = Counter()
        self.agents: set[str] = set()
        self.running = self.most = 0
        self.lock = threading.Lock()
        self.together = threading.Barrier(2)

    def handle_error(self, request: object, client_address: object) -> None:
        pass


class _Handler(http.server.BaseHTTPRequestHandler):
    server: LinkServer

    def do_GET(self) -> None:
        server = self.server
        with server.lock:
            server.asked[self.path] += 1
            asked = server.asked[self.path]
            server.agents.add(self.headers["User-Agent"])
            server.running += 1
            server.most = max(server.most, server.running)
        _, kind, number = self.path.split("/")
        self.answer_as(kind, int(number), asked)

    def answer_as(self, kind: str, number: int, asked: int) -> None:
        image = self.server.image(number)
        if kind == "dead":
            self.answer(404, b"gone")
        elif kind == "page":
            self.answer(200, b"<!DOCTYPE html><html></html>")
        elif kind == "busy":  # good at the second attempt
            self.answer(200, image) if asked > 1 else self.answer(503, b"", Retry_After="0")
        elif kind == "broken":
            self.answer(500, b"")
        elif kind == "hang-up":
            self.end()
            self.close_connection = True
        elif kind == "optout":
            self.answer(200, image, X_Robots_Tag="all, NoAI")
        elif kind == "optout-others":
            self.answer(200, image, X_Robots_Tag="gptbot: noai")
        elif kind == "two":  # answers when two ask at once
            self.server.together.wait(30)
            self.answer(200, image)
        else:
            self.answer(200, image)

    def end(self) -> None:
        """Count the request as answered: before its last byte, after which the next one may come."""
        with self.server.lock:
            self.server.running -= 1

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.end()
        with suppress(OSError):
            self.send_response(status)
            for name, value in {"Content_Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def link_server(image: Callable[[int], bytes]) -> Iterator[LinkServer]:
    """Yield a running server."""
    with LinkServer(image) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
