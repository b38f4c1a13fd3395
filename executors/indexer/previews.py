"""What a result grid shows of a document: everything but its pictures, and small JPEGs in their place."""

from __future__ import annotations

import io
from contextlib import suppress

from docarray import Document

from executors.indexer.packing import unpack
from finetuner.exceptions import InvalidDocument
from finetuner.images import image_of

SIDE = 256
QUALITY = 85
JPEG = "image/jpeg"


def preview(content: bytes) -> bytes:
    """Return a packed document with each picture, of its chunks too, as a JPEG of at most 256 pixels a side in `blob`.

    A picture behind an address stays an address. Bytes that are no picture, and arrays that are none, go.

    Args:
        content: of `PackedDocument`.
    """
    document = unpack(content)
    for part in (document, *document.chunks):
        _shrink(part)
    message = document.to_protobuf()
    message.ClearField("id")  # DocArray makes one up where there is none
    small: bytes = message.SerializeToString()
    return small


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
    picture = image_of(document, _no_address, SIDE)
    picture.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def _no_address(uri: str) -> bytes:
    raise AssertionError(f"{uri!r:.40} is not to be fetched")
