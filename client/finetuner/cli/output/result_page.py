"""The page that `finetuner search --html` writes: one file, with the Flow's thumbnails as data URIs."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from ...demo.report import STYLE
from ...documents.thumbnails import JPEG
from .matches import caption, score, tags

if TYPE_CHECKING:
    from docarray import Document

JPEG_START = b"\xff\xd8\xff"
GRID = """
.results { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: 1.2rem; }
.results figure { overflow-wrap: anywhere; } figcaption small { opacity: .7; display: block; }
"""


def write_page(path: Path, query: str, artifact: str, matches: Sequence[Document]) -> None:
    """Write the matches of a query as an HTML page.

    Args:
        path: the file to write.
        query: the text that was searched for.
        artifact: artifact id, alias or backbone of the search.
        matches: best first. An image is shown only if its blob is a JPEG, as the Flow's thumbnails are.
    """
    figures = "".join(map(_figure, matches))
    path.write_text(
        f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{escape(query)}</title><style>{STYLE}{GRID}</style>
<h1>{escape(query)}</h1>
<p class="lead">{len(matches)} matches of <code>{escape(artifact)}</code>, best first. The number is the cosine
similarity.</p>
<div class="results">{figures}</div>
</html>
""",
        encoding="utf-8",
    )


def _figure(match: Document) -> str:
    shown, described = escape(caption(match)), escape(tags(match))
    images = [part.blob for part in (match, *match.chunks) if part.blob.startswith(JPEG_START)]
    source = base64.b64encode(images[0]).decode() if images else ""
    image = f'<img alt="{shown}" src="data:{JPEG};base64,{source}">' if source else ""
    return (
        f"<figure>{image}<figcaption>{score(match):.3f} {shown}<small>{escape(match.id)}</small>"
        f"<small>{described}</small></figcaption></figure>\n"
    )
