"""Ways in: guessed tokens, endpoints beyond the role, the rooms' own ports, every route, uploads."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urlsplit

import grpc
import httpx
import psutil

from .frames import SINGLE, message
from .honest import TEXT
from .siege import Siege

WRITES = (
    "/index",
    "/delete",
    "/fit",
    "/artifacts/promote",
    "/index/backup",
    "/collections/drop",
    "/experiments/create",
)


def guess(siege: Siege) -> None:
    """Try tokens, and what a reader must not do."""
    with httpx.Client(base_url=siege.flow.http, timeout=60) as client:
        for number in range(2000):
            answer = client.post("/encode", json=TEXT, headers={"authorization": f"token guess-{number}"})
            if answer.status_code not in (401, 429):
                siege.entered.append(f"a guessed token: {answer.status_code}")
        for path in WRITES:
            answer = client.post(path, json={}, headers=siege.headers)
            if answer.status_code != 403:
                siege.entered.append(f"a reader at {path}: {answer.status_code}")


def knock(siege: Siege) -> None:
    """Ask the rooms' own ports."""
    known = {urlsplit(url).port for url in (siege.flow.host, siege.flow.http, *siege.flow.metrics.values())}
    ports = set()
    for process in siege.flow._remaining():
        with suppress(psutil.Error):
            ports |= {at.laddr.port for at in process.net_connections("tcp") if at.status == psutil.CONN_LISTEN}
    for port in ports - known:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            try:
                channel.unary_unary(SINGLE)(message(b"\x0a\x00"), timeout=30)
                siege.entered.append(f"the room at {port}")
            except grpc.RpcError as error:
                if error.code() != grpc.StatusCode.UNAUTHENTICATED:
                    siege.entered.append(f"the room at {port}: {error.code().name}")


def routes(siege: Siege) -> None:
    """GET every route that the server describes, with and without a token, and the metrics of every room."""
    with httpx.Client(base_url=siege.flow.http, timeout=60) as client:
        paths = client.get("/openapi.json", headers=siege.headers).json()["paths"]
        reads = [path for path, methods in paths.items() if "get" in methods and "logstream" not in path]
        for path in [
            *reads,
            "/",
            "/docs",
            "/ui/js/api.js",
            "/ui/%2e%2e/gateway.py",
            "/../../etc/passwd",
            "/" + "x" * 60_000,
        ]:
            for name in ("artifact", "dataset", "name", "model", "experiment", "run", "version"):
                path = path.replace(f"{{{name}}}", "..%2f..%2ftokens.json")
            for headers in (siege.headers, {}):
                for _ in range(20):
                    with suppress(httpx.HTTPError):
                        answer = client.get(path, headers=headers)
                        if b'"digest"' in answer.content or b"root:" in answer.content:
                            siege.entered.append(f"GET {path}: {answer.content[:80]!r}")
    for url in siege.flow.metrics.values():
        for _ in range(20):
            httpx.get(f"{url}/metrics", timeout=60)


def refused_uploads(siege: Siege) -> None:
    """Upload with the reader's token."""
    for path in ("/v1/artifacts", "/v2/rpc/artifact.upload"):
        with suppress(httpx.HTTPError):
            answer = httpx.post(
                f"{siege.flow.http}{path}", content=os.urandom(2**24), headers=siege.headers, timeout=60
            )
            if answer.status_code != 403:
                siege.entered.append(f"a reader at {path}: {answer.status_code}")


def uploads(siege: Siege) -> None:
    """Upload bombs with a writer's token: a zip that unpacks to far more, and 32 MiB that are no form."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(4):
            archive.writestr(f"made/models/{number}.safetensors", bytes(2**26))
    headers = {"authorization": f"token {siege.writer}"}
    form = {**headers, "content-type": "multipart/form-data; boundary=x"}
    start = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    for path, content, given in (
        ("/v1/artifacts", packed.getvalue(), headers),
        ("/v1/artifacts", b"PK\x03\x04" + os.urandom(2**25), headers),
        ("/v2/rpc/artifact.upload", start + os.urandom(2**25), form),
        ("/v2/rpc/artifact.upload", b"--x\r\n" + b"a: b\r\n" * 2**20, form),
    ):
        with suppress(httpx.HTTPError):
            answer = httpx.post(f"{siege.flow.http}{path}", content=content, headers=given, timeout=60)
            if answer.status_code < 400:
                siege.entered.append(f"a bomb at {path}: {answer.status_code}")


def attacks() -> dict[str, Callable[[Siege], None]]:
    """Return every way by name."""
    return {
        "guesses": guess,
        "rooms": knock,
        "routes, page and metrics": routes,
        "uploads, a reader's": refused_uploads,
        "uploads, a writer's": uploads,
    }
