"""Thumbnails: small JPEGs of images, for pages that show many."""

from __future__ import annotations

import base64
import io
from contextlib import suppress
from typing import TYPE_CHECKING

from ..exceptions import InvalidDocument
from .images import decode, image_of

if TYPE_CHECKING:
    from docarray import Document
    from PIL.Image import Image

SIDE = 256
QUALITY = 85
JPEG = "image/jpeg"


def thumbnail_uri(image: bytes, side: int = SIDE) -> str:
    """Return a thumbnail as a data URI.

    Args:
        image: an image file.
        side: longest side of the thumbnail, in pixels.

    Raises:
        InvalidDocument: bytes that `decode` refuses.
    """
    return f"data:{JPEG};base64," + base64.b64encode(_jpeg(decode(image, side), side)).decode()


def shrink(document: Document) -> None:
    """Replace the images of a document and its chunks with thumbnails of at most SIDE pixels, in `blob`.

    A web address stays. A blob, tensor or data URI that holds no image is removed.
    """
    for part in (document, *document.chunks):
        _shrink(part)


def _shrink(document: Document) -> None:
    in_uri = document.uri.startswith("data:")
    if document.content_type not in ("blob", "tensor") and not in_uri:
        return
    thumbnail = b""
    with suppress(InvalidDocument):
        thumbnail = _jpeg(image_of(document, _refuse, SIDE), SIDE)
    document.pop("blob", "tensor")
    if in_uri:
        document.pop("uri")
    if thumbnail:
        document.blob, document.mime_type = thumbnail, JPEG


def _jpeg(image: Image, side: int) -> bytes:
    image.thumbnail((side, side))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def _refuse(uri: str) -> bytes:
    raise AssertionError(f"{uri!r:.40} must not be fetched")
