"""Documents as docarray 0.40 writes them: a map from each field's name to its value."""

from __future__ import annotations


def written(field: int, content: bytes) -> bytes:
    """Return bytes as a field of a protobuf message."""
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    return bytes([number & 127 | 128]) + _varint(number >> 7) if number > 127 else bytes([number])


def entry(name: str, node: bytes) -> bytes:
    """Return one field of a document."""
    return written(1, written(1, name.encode()) + written(2, node))


ID = entry("id", written(1, b"8eb77ba4b5f6044592afdd939270563e") + written(13, b"id"))
# TextDoc(text="a red dress")
VERSION_2 = (
    entry("url", b"") + ID + entry("embedding", b"") + entry("bytes_", b"") + entry("text", written(1, b"dress"))
)
# TextDoc(embedding=...): its float64 values are no UTF-8, which an id of v1 must be
VERSION_2_ARRAY = ID + entry("embedding", written(6, written(1, written(1, b"\x86\xff\xa3\x07^(\xdf?"))))
