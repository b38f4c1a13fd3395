"""A stand-in for the Hugging Face hub's HTTP API: it gives the files of one model, and takes commits."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

COMMIT = "a" * 40
NAME = "owner/model"


@dataclass
class Hub:
    """State of the stand-in. A test sets what it gives, and reads what was sent."""

    files: dict[str, bytes] = field(default_factory=dict)
    """Files of the model NAME."""
    sizes: dict[str, int] = field(default_factory=dict)
    """Sizes that the list states, where they differ from those of the files."""
    commit: str = COMMIT
    token: str = ""
    """The token that a request must have, '' for none."""
    endpoint: str = ""
    sent: dict[str, bytes] = field(default_factory=dict)
    created: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    """Files that were fetched."""

    def described(self) -> dict[str, Any]:
        """Return the hub's description of the model."""
        listed = {name: len(content) for name, content in self.files.items()} | self.sizes
        siblings = [{"rfilename": name, "size": size} for name, size in listed.items()]
        return {"id": NAME, "sha": self.commit, "siblings": siblings, "private": False, "tags": [], "downloads": 0}


@contextmanager
def started_hub() -> Iterator[Hub]:
    """Yield a hub on a free port."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

        def do_HEAD(self) -> None:
            self._file(with_body=False)

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
                self._answer(401, {"error": "Invalid credentials"})
            elif path in (f"/api/models/{NAME}", f"/api/models/{NAME}/revision/{hub.commit}"):
                self._answer(200, hub.described())
            elif path.startswith(f"/api/models/{NAME}/tree/"):
                entries = [
                    {"type": "file", "path": name, "size": len(hub.files[name]), "oid": "b" * 40} for name in hub.files
                ]
                self._answer(200, entries)
            else:
                self._file(with_body=True)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
                self._answer(401, {"error": "Invalid credentials"})
            elif self.path == "/api/validate-yaml":
                self._answer(200, {"errors": [], "warnings": []})
            elif self.path == "/api/repos/create":
                hub.created.append(json.loads(body))
                self._answer(200, {"url": f"{hub.endpoint}/{NAME}"})
            elif "/preupload/" in self.path:
                files = [
                    {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for file in json.loads(body)["files"]
                ]
                self._answer(200, {"files": files})
            elif "/commit/" in self.path:
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "file":
                        hub.sent[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                self._answer(200, {"commitUrl": f"{hub.endpoint}/{NAME}/commit/{COMMIT}", "commitOid": COMMIT})
            else:
                self._answer(404, {"error": "no such path"})

        def _file(self, *, with_body: bool) -> None:
            name = self.path.partition("?")[0].removeprefix(f"/{NAME}/resolve/{hub.commit}/")
            content = hub.files.get(name)
            if content is None:
                self._answer(404, {"error": "Entry not found"}, with_body=with_body)
                return
            if with_body:
                hub.asked.append(name)
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Repo-Commit", hub.commit)
            self.end_headers()
            if with_body:
                self.wfile.write(content)

        def _answer(self, status: int, value: Any, *, with_body: bool = True) -> None:
            content = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if with_body:
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
