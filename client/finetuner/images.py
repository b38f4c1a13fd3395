"""From bytes, arrays and URIs of untrusted origin to pictures."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from .exceptions import InvalidDocument

if TYPE_CHECKING:
    from docarray import Document
    from PIL.Image import Image

MAX_BYTES = 32 * 2**20
MAX_PIXELS = 64_000_000
MAX_SIDE_RATIO = 50
# Raster formats of the web and of cameras. Pillow reads others by starting programs (EPS) or hardly tested parsers.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

UriReader = Callable[[str], bytes]


def decode(blob: bytes) -> Image:
    """Decode an image file: upright by its EXIF tag, mode RGB.

    Args:
        blob: a file in one of FORMATS, at most MAX_BYTES long and MAX_PIXELS large.

    Raises:
        InvalidDocument: not an image, truncated, or too large.
    """
    from PIL import Image, ImageOps

    if len(blob) > MAX_BYTES:
        raise InvalidDocument(f"image must be at most {MAX_BYTES} bytes. Got {len(blob)}. Scale it down.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own, lower limit follows
            image = Image.open(io.BytesIO(blob), formats=FORMATS)
        _check_size("image", image.width, image.height)
        return _to_rgb(ImageOps.exif_transpose(image))
    except InvalidDocument:
        raise
    except Exception as error:  # Pillow's plug-ins raise whatever their parsers run into
        raise InvalidDocument(
            f"image must be a picture file such as JPEG or PNG. Got {len(blob)} bytes that cannot be "
            f"decoded ({_one_line(error)}). Check the file, or remove the document."
        ) from error


def _check_size(what: str, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise InvalidDocument(f"{what} must be at most {MAX_PIXELS} pixels. Got {width} x {height}. Scale it down.")
    # Models enlarge the shorter side to theirs, and a line of one pixel by a million would take gigabytes.
    if max(width, height) > MAX_SIDE_RATIO * min(width, height):
        raise InvalidDocument(
            f"{what} must be at most {MAX_SIDE_RATIO} times as long as wide. Got {width} x {height}. Cut it."
        )


def _to_rgb(image: Image) -> Image:
    """Convert to RGB; 16-bit grey keeps its upper 8 bits, where Pillow would cut everything above 255 to white."""
    if image.mode == "F":
        raise InvalidDocument("image must have whole numbers as pixels. Got floating point. Convert it to 8 bits.")
    if not image.mode.startswith("I"):
        return image.convert("RGB")
    import numpy as np

    return from_tensor((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8))


def from_tensor(tensor: Any) -> Image:
    """Turn an array into a picture.

    Args:
        tensor: (height, width, 3) or (height, width), uint8.

    Raises:
        InvalidDocument: another shape or dtype.
    """
    import numpy as np
    from PIL import Image

    array = np.asarray(tensor)
    if array.dtype != np.uint8 or array.size == 0 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)):
        raise InvalidDocument(
            f"tensor must be (height, width, 3) or (height, width) uint8. "
            f"Got {array.shape} {array.dtype}. Convert it first."
        )
    _check_size("tensor", array.shape[1], array.shape[0])
    return Image.fromarray(array).convert("RGB")


def read_data_uri(uri: str) -> bytes:
    """Return the bytes inside a `data:` URI.

    Raises:
        InvalidDocument: malformed, or longer than MAX_BYTES.
    """
    header, comma, content = uri.partition(",")
    if not comma or len(content) > MAX_BYTES * 2:
        raise InvalidDocument(f"data URI must be 'data:TYPE;base64,CONTENT'. Got {uri[:40]!r}.")
    try:
        return base64.b64decode(content, validate=True) if header.endswith(";base64") else unquote_to_bytes(content)
    except ValueError as error:  # binascii.Error, or characters that are not ASCII
        raise InvalidDocument(f"data URI must hold valid base64. Got {uri[:40]!r} ({error}).") from error


def is_text(document: Document) -> bool:
    """Return whether the text tower is asked for this document."""
    return bool(document.text)


def image_of(document: Document, read_uri: UriReader) -> Image:
    """Return the picture in a document's blob, tensor or uri, whichever comes first.

    Args:
        document: of DocArray v1.
        read_uri: fetches a URI's bytes; it decides what may be fetched.

    Raises:
        InvalidDocument: no content, or content that is no picture.
    """
    if document.blob:
        return decode(document.blob)
    if document.tensor is not None:
        return from_tensor(document.tensor)
    if document.uri:
        return decode(read_data_uri(document.uri) if document.uri.startswith("data:") else read_uri(document.uri))
    raise InvalidDocument("document must have text, blob, tensor or uri. Got none of them. Set one.")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
