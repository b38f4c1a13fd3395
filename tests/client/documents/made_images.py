"""Makers of image files."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

ORIENTATION = 0x0112


def noise(height: int = 16, width: int = 24, channels: int = 3) -> np.ndarray:
    """Return (height, width, channels) uint8."""
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def saved(image: Image.Image | np.ndarray, kind: str, **options: Any) -> bytes:
    """Return an image file."""
    buffer = io.BytesIO()
    made = image if isinstance(image, Image.Image) else Image.fromarray(image)
    made.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, content: bytes, checksum: int | None = None) -> bytes:
    """Return a chunk of a PNG."""
    found = zlib.crc32(kind + content) if checksum is None else checksum
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", found)


def png_with(*chunks: bytes, late: bool = False) -> bytes:
    """Return noise as a PNG with further chunks, before or after the pixels."""
    png = saved(noise(), "PNG")
    place = len(png) - 12 if late else 33
    return png[:place] + b"".join(chunks) + png[place:]


def jpeg_with(kind: int, content: bytes) -> bytes:
    """Return noise as a JPEG with a further segment."""
    jpeg = saved(noise(), "JPEG")
    return jpeg[:2] + bytes([0xFF, kind]) + struct.pack(">H", len(content) + 2) + content + jpeg[2:]


def exif_with(*entries: tuple[int, int, int, bytes]) -> bytes:
    """Return EXIF tags, each (tag, type, count, 4 bytes of value)."""
    made = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in entries)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + made + bytes(4)
