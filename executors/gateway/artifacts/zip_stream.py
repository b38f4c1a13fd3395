"""Writes a zip while it is sent: no content is held in memory, and the size is known in advance.

Files are stored uncompressed, since weights do not compress. A file's CRC-32 is known only at its end, so it follows
the content (APPNOTE.TXT 4.3.9). Every file has zip64 sizes (4.5.3), whatever its size, so all headers have one length.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable

VERSION = 45  # the first one with zip64
FLAGS = 0x0808  # CRC and sizes follow the content; names in UTF-8
DATE = (1 << 5) | 1  # 1980-01-01, so the same artifact always gives the same zip
ATTRIBUTES = 0o100644 << 16
UNIX, FULL16, FULL32 = 3, 0xFFFF, 0xFFFFFFFF  # a full field: zip64 holds the value

LOCAL = struct.Struct("<4s5HL2L2H")
LOCAL_SIZES = struct.Struct("<2H2Q")
DESCRIPTOR = struct.Struct("<4sL2Q")
CENTRAL = struct.Struct("<4s4B4HL2L5H2L")
CENTRAL_SIZES = struct.Struct("<2H3Q")
END = struct.Struct("<4sQ2H2L4Q4sLQL4s4H2LH")  # the end record of zip64, its locator, and the old end record

PER_FILE = LOCAL.size + LOCAL_SIZES.size + DESCRIPTOR.size + CENTRAL.size + CENTRAL_SIZES.size


def zip_size(files: Iterable[tuple[str, int]]) -> int:
    """Return the size in bytes of a zip of files, given by name and size."""
    return END.size + sum(PER_FILE + 2 * len(name.encode()) + size for name, size in files)


class ZipStream:
    """Writer of one zip. Call `begin`, `piece` and `end` for each file, then `finish`; each returns bytes to send."""

    def __init__(self) -> None:
        self._sent = self._size = self._crc = self._start = self._count = 0
        self._name = b""
        self._list = bytearray()

    def begin(self, name: str) -> bytes:
        """Start a file. Its name is a POSIX path."""
        self._name, self._start, self._size, self._crc = name.encode(), self._sent, 0, 0
        header = LOCAL.pack(
            b"PK\x03\x04", VERSION, FLAGS, 0, 0, DATE, 0, FULL32, FULL32, len(self._name), LOCAL_SIZES.size
        )
        return self._counted(header + self._name + LOCAL_SIZES.pack(1, LOCAL_SIZES.size - 4, 0, 0))

    def piece(self, content: bytes) -> bytes:
        """Add the next bytes of the file; return them unchanged."""
        self._crc = zlib.crc32(content, self._crc)
        self._size += len(content)
        return self._counted(content)

    def end(self) -> bytes:
        """End the file."""
        sizes = CENTRAL_SIZES.pack(1, CENTRAL_SIZES.size - 4, self._size, self._size, self._start)
        self._list += CENTRAL.pack(
            b"PK\x01\x02", VERSION, UNIX, VERSION, 0, FLAGS, 0, 0, DATE, self._crc, FULL32, FULL32,
            len(self._name), len(sizes), 0, 0, 0, ATTRIBUTES, FULL32,
        )  # fmt: skip
        self._list += self._name + sizes
        self._count += 1
        return self._counted(DESCRIPTOR.pack(b"PK\x07\x08", self._crc, self._size, self._size))

    def finish(self) -> bytes:
        """End the zip with the list of its files."""
        start, size, count = self._sent, len(self._list), self._count
        return bytes(self._list) + END.pack(
            b"PK\x06\x06", 44, VERSION, VERSION, 0, 0, count, count, size, start,
            b"PK\x06\x07", 0, start + size, 1,
            b"PK\x05\x06", 0, 0, FULL16, FULL16, FULL32, FULL32, 0,
        )  # fmt: skip

    def _counted(self, content: bytes) -> bytes:
        self._sent += len(content)
        return content
