"""Small JPEGs in the place of a document's images, for pages that show many."""

from __future__ import annotations

import io
from contextlib import suppress

from docarray import Document

from finetuner.documents.images import image_of
from finetuner.exceptions import InvalidDocument

SIDE = 256
QUALITY = 85
JPEG = "image/jpeg"


def shrink(document: Document) -> None:
    """Make each image, of the document's chunks too, a JPEG of at most 256 pixels a side in `blob`.

    An image behind an address stays an address. Bytes that are no image, and arrays that are none, go.
    """
    for part in (document, *document.chunks):
        _shrink(part)


def _shrink(document: Document) -> None:
    in_uri = document.uri.startswith("data:")
    if document.content_type not in ("blob", "tensor") and not in_uri:
        return
    thumbnail = b""
    with suppress(InvalidDocument):
        thumbnail = _jpeg(document)
    document.pop("blob", "tensor")
    if in_uri:
        document.pop("uri")
    if thumbnail:
        document.blob, document.mime_type = thumbnail, JPEG


def _jpeg(document: Document) -> bytes:
    image = image_of(document, _no_address, SIDE)
    image.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def _no_address(uri: str) -> bytes:
    raise AssertionError(f"{uri!r:.40} is not to be fetched")
