"""DocArray's stream of documents, the format of `DocumentArray.push` and `DocumentArray.pull`.

    0x01, number of documents (uint64), then for each document its length (uint32) and its protobuf in gzip

Numbers are big-endian. Our streams use gzip without compression. Images are compressed already, and the length of the
whole stream, which HTTP needs before the first byte, follows from the lengths of the documents.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from ..contract import wire
from ..exceptions import InvalidDocument, InvalidInput

VERSION = 1
HEADER = struct.Struct(">BQ")
LENGTH = struct.Struct(">I")
BLOCK = struct.Struct("<BHH")
GZIP_HEADER = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
GZIP_ENDS = len(GZIP_HEADER) + 8
BLOCK_BYTES = 65535
PADDING = 4096
PICKLE = 0x80


def largest_document() -> int:
    """Return the largest size of a document in one request, in bytes of protobuf."""
    return wire.MAX_MESSAGE_BYTES - 2**20


def packed_size(length: int) -> int:
    """Return the size in our stream of a document of `length` bytes."""
    return LENGTH.size + GZIP_ENDS + length + BLOCK.size * max(-(-length // BLOCK_BYTES), 1)


def padding(version: str) -> int:
    """Return the number of zeros after the first document's gzip, in [0, PADDING).

    DocArray caches a pulled dataset under its name, and reuses the cache if the lengths are equal, whatever the
    content. The padding makes the length depend on the content; gzip allows zeros at its end.

    Args:
        version: SHA-256 of the content, in hex.
    """
    return int(version[:8], 16) % PADDING


def pack(content: bytes, zeros: int = 0) -> bytes:
    """Return a document's protobuf in the format of our stream: length, then gzip of stored blocks."""
    blocks = [GZIP_HEADER]
    for start in range(0, max(len(content), 1), BLOCK_BYTES):
        block = content[start : start + BLOCK_BYTES]
        last = start + BLOCK_BYTES >= len(content)
        blocks += [BLOCK.pack(last, len(block), len(block) ^ 0xFFFF), block]
    blocks += [struct.pack("<II", zlib.crc32(content), len(content) & 0xFFFFFFFF), bytes(zeros)]
    return LENGTH.pack(sum(map(len, blocks))) + b"".join(blocks)


class StreamReader:
    """Reads a stream piece by piece, with at most one document in memory.

    Raises, from its methods:
        InvalidInput: another format, a truncated stream, or bytes after the last document.
        InvalidDocument: a document that is too large or not gzip, with its position, from 0.
    """

    def __init__(self) -> None:
        self._held = bytearray()
        self._count: int | None = None
        self.read = 0
        """Number of documents read."""

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Yield the protobuf of each document that this piece completes."""
        self._held += piece
        if self._count is None and not self._read_header():
            return
        start = 0
        try:
            while self.read < self._expected():
                end = start + LENGTH.size
                if len(self._held) < end:
                    return
                (length,) = LENGTH.unpack_from(self._held, start)
                if length > largest_document() + PADDING:
                    raise self._too_large(f"{length} bytes of gzip")
                if len(self._held) < end + length:
                    return
                content = self._unzipped(bytes(memoryview(self._held)[end : end + length]))
                start, self.read = end + length, self.read + 1
                yield content
            if len(self._held) > start:
                raise InvalidInput(f"stream must end after its {self._count} documents. Got more bytes. Push it again.")
        finally:
            del self._held[:start]

    def finish(self) -> int:
        """Check that the stream is complete, and return the number of documents."""
        if self._count is None or self._held or self.read != self._count:
            expected = "a whole header" if self._count is None else f"{self._count} documents"
            raise InvalidInput(f"stream must be whole, with {expected}. Got {self.read} documents. Push it again.")
        return self._count

    def _read_header(self) -> bool:
        """Read the header, and return whether it is complete."""
        if self._held and self._held[0] == PICKLE:
            raise InvalidInput(
                "stream must hold documents as protobuf. Got a pickle, which this server never opens: that would "
                "run the sender's code. Use DocumentArray.push, or to_bytes(protocol='protobuf', compress='gzip')."
            )
        if self._held and self._held[0] != VERSION:
            raise InvalidInput(
                f"stream must be DocArray's, which starts with byte {VERSION}. Got {self._held[0]}. "
                f"Use DocumentArray.push."
            )
        if len(self._held) < HEADER.size:
            return False
        _, self._count = HEADER.unpack_from(self._held)
        del self._held[: HEADER.size]
        if not self._count:
            raise InvalidInput("dataset must hold at least one document. Got none. Add documents.")
        return True

    def _expected(self) -> int:
        assert self._count is not None
        return self._count

    def _unzipped(self, packed: bytes) -> bytes:
        if packed[:1] == bytes([PICKLE]):
            raise InvalidDocument(
                f"document {self.read} must be protobuf in gzip. Got a pickle, which this server never opens. "
                f"Use DocumentArray.push."
            )
        most, unzip = largest_document(), zlib.decompressobj(wbits=31)
        try:
            content = unzip.decompress(packed, most + 1)
        except zlib.error as error:
            raise InvalidDocument(
                f"document {self.read} must be protobuf in gzip. Got {packed[:8]!r}... ({error}). Push it again."
            ) from None
        if len(content) > most:
            raise self._too_large("more when it is unzipped")
        if not unzip.eof or unzip.unused_data.strip(b"\0"):
            raise InvalidDocument(f"document {self.read} must be one whole gzip. Got a part or more. Push it again.")
        return content

    def _too_large(self, got: str) -> InvalidDocument:
        return InvalidDocument(
            f"document {self.read} must be at most {largest_document()} bytes. Got {got}. Make it smaller."
        )
