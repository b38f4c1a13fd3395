"""The web page: the files of `web/`, read once and served without a token.

The files hold no data of this Flow. The page loads its data from the REST API, which needs the token.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from finetuner.exceptions import NotFound

from .access.errors import error_body

FOLDER = Path(__file__).with_name("web")
FILES = "/ui/"
PAGES = {"/": "index.html", "/docs": "docs.html"}

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

# Scripts and styles come only from our own files, none inline. Images of documents are blob: URLs.
# Trusted Types forbid innerHTML and similar sinks, so stored text is only ever shown as text.
POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",  # browsers revalidate with the ETag each time
}


@dataclass(frozen=True)
class File:
    """One file of the page."""

    content: bytes
    media_type: str
    etag: str
    """In quotes, as in the header."""


def page_routes(folder: Path = FOLDER) -> APIRouter:
    """Read the files of the page and return its routes."""
    router, files = APIRouter(include_in_schema=False), read_files(folder)

    async def page(request: Request) -> Response:
        return _answer(request, files[PAGES[request.url.path]])

    async def file(request: Request, name: str) -> Response:
        # a name is a key of `files`, and never becomes a path
        if name not in files:
            error = NotFound(f"file must be one of the page's. Got {name!r:.80}. Reload the page.")
            return JSONResponse(error_body(error), 404, HEADERS)
        return _answer(request, files[name])

    for path in PAGES:
        router.add_api_route(path, page, methods=["GET", "HEAD"])
    router.add_api_route(f"{FILES}{{name:path}}", file, methods=["GET", "HEAD"])
    return router


def read_files(folder: Path) -> dict[str, File]:
    """Return the files below `folder` whose type is in TYPES, by their POSIX path in it."""
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
