"""A stand-in for the hub's files: the part of its API that reads a data set, and a web server of the same files."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_right"
COMMIT = "a" * 40
API, FILES = "/api/datasets/", "/datasets/"


class HubServer(http.server.ThreadingHTTPServer):
    """Has the data set `me/shop` with some files, and `me/secret`, which needs TOKEN."""

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = files
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: HubServer

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        paths = json.loads(body)["paths"] if body.startswith("{") else parse_qs(body)["paths"]
        repo, _, _ = self.split(API)
        if self.allowed(repo):
            self.json([info for path in paths for info in self.infos(path) if info["path"] == path])

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if path.startswith(API):
            repo, what, inner = self.split(API)
            if not self.allowed(repo):
                return
            if what == "tree":
                self.json([info for info in self.infos(inner) if info["path"] != inner])
            else:
                self.json({"id": repo, "sha": COMMIT, "siblings": [], "private": False, "tags": [], "downloads": 0})
        elif path.startswith(FILES):
            repo, _, inner = self.split(FILES)
            if self.allowed(repo):
                self.file(inner)
        else:
            self.file(unquote(path).removeprefix("/"))

    def split(self, prefix: str) -> tuple[str, str, str]:
        """Return the repository, what is asked of it, and a path."""
        parts = unquote(urlsplit(self.path).path).removeprefix(prefix).split("/")
        return "/".join(parts[:2]), parts[2] if len(parts) > 2 else "", "/".join(parts[4:])

    def allowed(self, repo: str) -> bool:
        if repo == "me/shop" or (repo == "me/secret" and self.headers["Authorization"] == f"Bearer {TOKEN}"):
            return True
        code = "RepoNotFound" if repo != "me/secret" else "GatedRepo"
        self.answer(404 if repo != "me/secret" else 403, b"", X_Error_Code=code, X_Error_Message=f"no {repo}")
        return False

    def infos(self, inner: str) -> list[dict[str, Any]]:
        """Return everything at or below a path."""
        found: dict[str, dict[str, Any]] = {}
        for path, content in self.server.files.items():
            parents = path.split("/")[:-1]
            for depth in range(1, len(parents) + 1):
                folder = "/".join(parents[:depth])
                found[folder] = {"type": "directory", "path": folder, "oid": "b" * 40, "size": 0}
            found[path] = {"type": "file", "path": path, "oid": "b" * 40, "size": len(content)}
        return [info for path, info in found.items() if not inner or path == inner or path.startswith(f"{inner}/")]

    def file(self, path: str) -> None:
        content = self.server.files.get(path)
        if content is None:
            self.answer(404, b"", X_Error_Code="EntryNotFound")
        else:
            self.answer(200, content, X_Repo_Commit=COMMIT, ETag='"b"')

    def json(self, value: Any) -> None:
        self.answer(200, json.dumps(value).encode(), Content_Type="application/json")

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def hub_server(files: dict[str, bytes]) -> Iterator[HubServer]:
    """Yield a running server."""
    with HubServer(files) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
