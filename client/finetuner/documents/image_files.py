"""Image files: their formats, the endings of their names, and their first bytes."""

from __future__ import annotations

import re
import warnings
from importlib.util import find_spec
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    import os

    from PIL.Image import Image

# Raster formats of the web and of cameras. For others, Pillow starts programs (EPS) or uses rarely tested parsers.
FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
SUFFIXES = frozenset(
    {".apng", ".avif", ".bmp", ".dib", ".gif", ".heic", ".heif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm"}
    | {".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"}
)
HEIC_PACKAGE = "pillow_heif"
HEAD_BYTES = 32
HEADS = (
    *(b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a"),
    *(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),  # TIFF and BigTIFF
    *(b"\0\0\0\x0cJXL \r\n\x87\n", b"\0\0\0\x0cjP  \r\n\x87\n", b"8BPS\0\x01"),  # JPEG XL, JPEG 2000, Photoshop
)
HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
AVIF_BRANDS = frozenset({b"avif", b"avis"})
NETPBM = re.compile(rb"P[1-6]\s+[#\d]")
BMP_HEADERS = (12, 40, 52, 56, 64, 108, 124)


def is_image(head: bytes) -> bool:
    """Return whether a file that begins with these bytes, at least HEAD_BYTES of them, is an image of a known format.

    Some of these formats cannot be decoded; `decode` names those that can.
    """
    return bool(
        head.startswith(HEADS)
        or (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or (head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in BMP_HEADERS)
        or is_heic(head)
        or (head[4:8] == b"ftyp" and head[8:12] in AVIF_BRANDS)
        or NETPBM.match(head)
    )


def is_heic(head: bytes) -> bool:
    """Return whether a file that begins with these bytes is HEIC or another HEIF."""
    return head[4:8] == b"ftyp" and head[8:12] in HEIC_BRANDS


def open_image(file: str | os.PathLike[str] | IO[bytes]) -> Image:
    """Open an image file in one of FORMATS, or HEIC if pillow-heif is installed, without reading its pixels.

    Raises:
        Exception: not such a file; the parsers of Pillow's plug-ins raise anything.
    """
    from PIL import Image

    formats: tuple[str, ...] = FORMATS
    if find_spec(HEIC_PACKAGE) is not None:
        import pillow_heif

        pillow_heif.register_heif_opener()
        formats += ("HEIF",)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is lower
        return Image.open(file, formats=formats)


def why_unreadable(blob: bytes, error: Exception) -> str:
    """Return the reason, in one line, why an image file cannot be decoded."""
    from PIL import UnidentifiedImageError

    if is_heic(blob) and find_spec(HEIC_PACKAGE) is None:
        return "HEIC needs the extra 'heic' where it is decoded: pip install 'open-finetuner[heic]'; or save it as JPEG"
    if isinstance(error, UnidentifiedImageError):  # its message has an address in memory
        return f"the formats are {', '.join(FORMATS)}, and HEIC with open-finetuner[heic]"
    return " ".join(str(error).split())[:160] or type(error).__name__
