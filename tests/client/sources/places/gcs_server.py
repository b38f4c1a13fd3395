"""A stand-in for Google Cloud Storage's JSON API: one bucket, whose objects are listed and read."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

BUCKET = "shop"


@contextmanager
def started_store(objects: dict[str, bytes]) -> Iterator[str]:
    """Yield the address of a store with these objects in BUCKET."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            address = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(address.query).items()}
            found = re.fullmatch(r"(?:/download)?/storage/v1/b/([^/]+)(/o(?:/(.+))?)?", address.path)
            if found is None or found[1] != BUCKET:
                self._answer(404, {"error": {"code": 404, "message": "no such bucket"}})
            elif found[3]:
                name = unquote(found[3])
                if name not in objects:
                    self._answer(404, {"error": {"code": 404, "message": "no such object"}})
                elif query.get("alt") == "media":
                    self._content(objects[name])
                else:
                    self._answer(200, described(name))
            elif found[2]:
                self._answer(200, listed(query.get("prefix", ""), query.get("delimiter", "")))
            else:
                self._answer(200, {"kind": "storage#bucket", "name": BUCKET, "id": BUCKET})

        def _content(self, content: bytes) -> None:
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            start, end = (int(asked[1]), int(asked[2] or len(content) - 1)) if asked else (0, len(content) - 1)
            part = content[start : end + 1]
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(len(part)))
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{start + len(part) - 1}/{len(content)}")
            self.end_headers()
            self.wfile.write(part)

        def _answer(self, status: int, value: Any) -> None:
            content = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    def described(name: str) -> dict[str, Any]:
        size = str(len(objects[name]))
        times = {"timeCreated": "2026-01-01T00:00:00.000Z", "updated": "2026-01-01T00:00:00.000Z"}
        return {"kind": "storage#object", "name": name, "bucket": BUCKET, "size": size, "generation": "1", **times}

    def listed(prefix: str, delimiter: str) -> dict[str, Any]:
        items, folders = [], set()
        for name in sorted(objects):
            rest = name.removeprefix(prefix)
            if name.startswith(prefix) and delimiter and delimiter in rest:
                folders.add(prefix + rest.partition(delimiter)[0] + delimiter)
            elif name.startswith(prefix):
                items.append(described(name))
        return {"kind": "storage#objects", "items": items, "prefixes": sorted(folders)}

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
