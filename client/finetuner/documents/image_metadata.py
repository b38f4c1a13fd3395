"""Removes what is not pixels from PNG and JPEG files, for files whose metadata keep Pillow from reading them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

PNG = b"\x89PNG\r\n\x1a\n"
PIXEL_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
EXIF_CHUNK = b"eXIf"
MAX_EXIF_BYTES = 2**16
JPEG = b"\xff\xd8"
START_OF_SCAN = 0xDA
METADATA_SEGMENTS = (0xE0, *range(0xE2, 0xF0), 0xFE)  # APP1, which Pillow always reads, has the orientation
ADOBE_SEGMENT, ADOBE_BYTES = 0xEE, 16  # it tells how colours are stored
STAND_ALONE = (0x01, *range(0xD0, 0xD9))


def without_metadata(blob: bytes) -> bytes:
    """Return a PNG or JPEG file without its metadata except for the orientation, and any other file as it is."""
    if blob.startswith(PNG):
        return PNG + b"".join(_png_chunks(blob))
    if blob.startswith(JPEG):
        return b"".join(_jpeg_segments(blob))
    return blob


def _png_chunks(blob: bytes) -> Iterator[bytes]:
    """Yield the chunks with pixels, and the EXIF tags if they are whole."""
    start = len(PNG)
    while start + 8 <= len(blob):
        end = start + 12 + int.from_bytes(blob[start : start + 4], "big")
        kind, content = blob[start + 4 : start + 8], blob[start + 8 : end - 4]
        is_exif = kind == EXIF_CHUNK and len(content) <= MAX_EXIF_BYTES
        if kind in PIXEL_CHUNKS or (is_exif and blob[end - 4 : end] == zlib.crc32(kind + content).to_bytes(4, "big")):
            yield blob[start:end]
        start = end


def _jpeg_segments(blob: bytes) -> Iterator[bytes]:
    """Yield the segments up to the pixels without those of metadata, then the rest."""
    yield JPEG
    start = len(JPEG)
    while start + 4 <= len(blob) and blob[start] == 0xFF:
        kind = blob[start + 1]
        if kind == START_OF_SCAN:
            break
        if kind == 0xFF or kind in STAND_ALONE:  # a filler, or a segment without content
            start += 1 if kind == 0xFF else 2
            continue
        end = start + 2 + int.from_bytes(blob[start + 2 : start + 4], "big")
        if kind not in METADATA_SEGMENTS or (kind == ADOBE_SEGMENT and end - start >= ADOBE_BYTES):
            yield blob[start:end]
        start = end
    yield blob[start:]
