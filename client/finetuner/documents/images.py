"""Decodes images from untrusted bytes, arrays and URIs."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from ..exceptions import EmptyDocument, ImageTooLarge, InvalidDocument, InvalidTensor, UndecodableImage
from .image_files import open_image, why_unreadable
from .image_metadata import without_metadata
from .image_pixels import upright_rgb

if TYPE_CHECKING:
    from docarray import Document
    from PIL.Image import Image

MAX_BYTES = 32 * 2**20
MAX_PIXELS = 64_000_000
MAX_SIDE_RATIO = 50

UriReader = Callable[[str], bytes]


def decode(blob: bytes, side: int = 0) -> Image:
    """Decode an image file to RGB, rotated upright by its EXIF tag; see `image_pixels.upright_rgb`.

    Args:
        blob: a file in one of FORMATS, of at most MAX_BYTES and MAX_PIXELS; HEIC with the extra `heic`. Damaged
            metadata is ignored.
        side: in pixels; a JPEG is decoded at 1/2, 1/4 or 1/8 of its size if both sides stay at least this long. 0: at
            full size.

    Raises:
        UndecodableImage: not an image, truncated, or with pixels that 8 bits cannot hold.
        ImageTooLarge: above MAX_BYTES, MAX_PIXELS or MAX_SIDE_RATIO.
    """
    if len(blob) > MAX_BYTES:
        raise ImageTooLarge(f"image must be at most {MAX_BYTES} bytes. Got {len(blob)}. Scale it down.")
    try:
        return _decoded(blob, side)
    except InvalidDocument:
        raise
    except Exception as error:  # the parsers of Pillow's plug-ins raise anything
        bare = without_metadata(blob)
        with suppress(Exception):
            if bare != blob:
                return _decoded(bare, side)
        raise UndecodableImage(
            f"image must be an image file such as JPEG or PNG. Got {len(blob)} bytes that cannot be "
            f"decoded ({why_unreadable(blob, error)}). Check the file, or remove the document."
        ) from error


def _decoded(blob: bytes, side: int) -> Image:
    from PIL.Image import DecompressionBombError

    try:
        image = open_image(io.BytesIO(blob))
    except DecompressionBombError as error:  # too large for Pillow to open
        raise ImageTooLarge(f"image must be at most {MAX_PIXELS} pixels. Got more ({error}). Scale it down.") from error
    check_size("image", image.width, image.height)
    if side:
        image.draft(None, (side, side))
    return upright_rgb(image)


def check_size(subject: str, width: int, height: int) -> None:
    """Raise ImageTooLarge above MAX_PIXELS or MAX_SIDE_RATIO."""
    if width * height > MAX_PIXELS:
        raise ImageTooLarge(f"{subject} must be at most {MAX_PIXELS} pixels. Got {width} x {height}. Scale it down.")
    # Models scale the shorter side to their input size, so a line of 1 x 1,000,000 pixels would take gigabytes.
    if max(width, height) > MAX_SIDE_RATIO * min(width, height):
        raise ImageTooLarge(
            f"{subject} must be at most {MAX_SIDE_RATIO} times as long as wide. Got {width} x {height}. Cut it."
        )


def from_tensor(tensor: Any) -> Image:
    """Return an array as an image.

    Args:
        tensor: (height, width, 3) or (height, width), uint8.

    Raises:
        InvalidTensor: another shape or dtype.
        ImageTooLarge: above MAX_PIXELS or MAX_SIDE_RATIO.
    """
    import numpy as np
    from PIL import Image

    array = np.asarray(tensor)
    if array.dtype != np.uint8 or array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)):
        raise InvalidTensor(
            f"tensor must be (height, width, 3) or (height, width) uint8. "
            f"Got {array.shape} {array.dtype}. Convert it first."
        )
    check_size("tensor", array.shape[1], array.shape[0])
    return Image.fromarray(array).convert("RGB")


def read_data_uri(uri: str) -> bytes:
    """Return the content of a `data:` URI.

    Raises:
        UndecodableImage: a malformed URI, or one longer than 2 * MAX_BYTES.
    """
    header, comma, content = uri.partition(",")
    if not comma or len(content) > MAX_BYTES * 2:
        raise UndecodableImage(f"data URI must be 'data:TYPE;base64,CONTENT'. Got {uri[:40]!r}.")
    try:
        return base64.b64decode(content, validate=True) if header.endswith(";base64") else unquote_to_bytes(content)
    except ValueError as error:  # invalid base64, or characters beyond ASCII
        raise UndecodableImage(f"data URI must hold valid base64. Got {uri[:40]!r} ({error}).") from error


def is_text(document: Document) -> bool:
    """Return whether a document is a text, for the text tower."""
    return bool(document.text)


def image_of(document: Document, read_uri: UriReader, side: int = 0) -> Image:
    """Return the image in a document's blob, else in its tensor, else in its uri.

    Args:
        document: of DocArray v1.
        read_uri: returns the bytes of a URI, and enforces the rules of `uris`.
        side: as in `decode`.

    Raises:
        EmptyDocument: no blob, tensor and uri.
        InvalidDocument: invalid content; a subclass states the reason.
    """
    blob = image_file(document, read_uri)
    if blob is not None:
        return decode(blob, side)
    if document.tensor is not None:
        return from_tensor(document.tensor)
    raise EmptyDocument("document must have text, blob, tensor or uri. Got none of them. Set one.")


def image_file(document: Document, read_uri: UriReader) -> bytes | None:
    """Return the file in a document's blob, or, without a tensor, behind its uri. None if it has neither.

    Raises:
        InvalidDocument: invalid content of the uri.
    """
    if document.blob or document.tensor is not None or not document.uri:
        return document.blob or None
    return read_data_uri(document.uri) if document.uri.startswith("data:") else read_uri(document.uri)
