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
LFS_BYTES = 10 * 2**20
"""Files of more bytes go by Git LFS, as on the hub."""


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
    large: dict[str, bytes] = field(default_factory=dict)
    """Content that came by Git LFS, by its SHA-256."""
    verified: list[str] = field(default_factory=list)
    """The SHA-256s that the client asked to verify."""
    part_bytes: int = 0
    """Bytes of a part of a large file, which the hub asks for above 5 GB; 0 takes files whole."""
    refuses_verify: bool = False
    parts: dict[str, dict[int, bytes]] = field(default_factory=dict)

    def upload_of(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Return how to send a large file, as the batch API says it."""
        oid, size = asked["oid"], asked["size"]
        if oid in self.large:
            return asked
        header: dict[str, str] = {}
        if self.part_bytes:
            count = -(-size // self.part_bytes)
            header = {"chunk_size": str(self.part_bytes)}
            header |= {str(part): f"{self.endpoint}/lfs/{oid}/{part}" for part in range(1, count + 1)}
        upload = {"href": f"{self.endpoint}/lfs/{oid}", "header": header}
        return asked | {"actions": {"upload": upload, "verify": {"href": f"{self.endpoint}/verify"}}}

    def committed(self, lines: list[dict[str, Any]]) -> bool:
        """Take a commit, unless it names a large file that has not arrived."""
        sent = {}
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                sent[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                content = self.large.get(value["oid"], b"")
                if hashlib.sha256(content).hexdigest() != value["oid"] or len(content) != value["size"]:
                    return False
                sent[value["path"]] = content
        self.sent |= sent
        return True

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
            body = self._body()
            if self.path.startswith("/lfs/"):  # the end of a file in parts, at a signed address
                oid = self.path.rpartition("/")[2]
                numbers = [part["partNumber"] for part in json.loads(body)["parts"]]
                hub.large[oid] = b"".join(hub.parts[oid][number] for number in numbers)
                self._answer(200, {})
            elif hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
                self._answer(401, {"error": "Invalid credentials"})
            elif self.path == "/api/validate-yaml":
                self._answer(200, {"errors": [], "warnings": []})
            elif self.path == "/api/repos/create":
                hub.created.append(json.loads(body))
                self._answer(200, {"url": f"{hub.endpoint}/{NAME}"})
            elif "/preupload/" in self.path:
                files = [
                    {
                        "path": file["path"],
                        "uploadMode": "lfs" if file["size"] > LFS_BYTES else "regular",
                        "shouldIgnore": False,
                    }
                    for file in json.loads(body)["files"]
                ]
                self._answer(200, {"files": files})
            elif self.path == f"/{NAME}.git/info/lfs/objects/batch":
                self._answer(200, {"objects": [hub.upload_of(one) for one in json.loads(body)["objects"]]})
            elif self.path == "/verify":
                asked = json.loads(body)
                hub.verified.append(asked["oid"])
                good = not hub.refuses_verify and len(hub.large[asked["oid"]]) == asked["size"]
                self._answer(200 if good else 422, {} if good else {"error": "the object is not the one announced"})
            elif "/commit/" in self.path:
                if not hub.committed([json.loads(line) for line in body.splitlines()]):
                    self._answer(400, {"error": "a large file has not arrived"})
                    return
                self._answer(200, {"commitUrl": f"{hub.endpoint}/{NAME}/commit/{COMMIT}", "commitOid": COMMIT})
            else:
                self._answer(404, {"error": "no such path"})

        def do_PUT(self) -> None:
            """Take a large file or a part of it, at a signed address, without a token."""
            _, _, oid, *part = self.path.split("/")
            content = self._body()
            if part:
                hub.parts.setdefault(oid, {})[int(part[0])] = content
            else:
                hub.large[oid] = content
            self.send_response(200)
            self.send_header("ETag", '"part"')
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _body(self) -> bytes:
            if (length := self.headers.get("Content-Length")) is not None:
                return self.rfile.read(int(length))
            content = b""  # in chunks
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return content

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
