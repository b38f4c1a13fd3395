"""The web page: files of `web/`, read once, served without a token to whoever asks.

They hold nothing of this Flow. What the page shows comes from the REST API, which asks for the token.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request, Response

FOLDER = Path(__file__).with_name("web")
FILES = "/ui/"
PAGES = {"/": "index.html", "/docs": "docs.html"}

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

# Scripts and styles come from our own files alone, none inline; images of documents are blob: addresses.
# Trusted Types forbid innerHTML and its kin: what is stored can be shown as text only.
POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",  # browsers ask each time whether the ETag still holds
}


@dataclass(frozen=True)
class File:
    """One file of the page."""

    content: bytes
    media_type: str
    etag: str
    """Quoted, as the header has it."""


def web_routes(folder: Path = FOLDER) -> APIRouter:
    """Return the routes of the page and its files, which are read now."""
    router, files = APIRouter(include_in_schema=False), read_files(folder)

    async def page(request: Request) -> Response:
        return _answer(request, files[PAGES[request.url.path]])

    async def file(request: Request, name: str) -> Response:
        # a name is looked up among the files that are there, and never becomes a path
        found = files.get(name)
        return Response("No such file.\n", 404, HEADERS, "text/plain") if found is None else _answer(request, found)

    for path in PAGES:
        router.add_api_route(path, page, methods=["GET", "HEAD"])
    router.add_api_route(f"{FILES}{{name:path}}", file, methods=["GET", "HEAD"])
    return router


def read_files(folder: Path) -> dict[str, File]:
    """Return the files below `folder` by their POSIX path in it; those of a type that a page needs."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix in TYPES and path.is_file():
            content = path.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
            files[path.relative_to(folder).as_posix()] = File(content, TYPES[path.suffix], etag)
    return files


def _answer(request: Request, file: File) -> Response:
    headers = {**HEADERS, "ETag": file.etag}
    known = [each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")]
    if file.etag in known:
        return Response(status_code=304, headers=headers)
    return Response(file.content, headers=headers, media_type=file.media_type)
