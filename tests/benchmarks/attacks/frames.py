"""Messages of protobuf and frames of HTTP/2, written by hand: no library would send such ones."""

from __future__ import annotations

import struct

from google.protobuf.internal.encoder import _VarintBytes as varint

SINGLE = "/jina.JinaSingleDataRequestRPC/process_single_data"
CALL = "/jina.JinaRPC/Call"


def part(tag: int, content: bytes) -> bytes:
    """Return a field of protobuf: its tag, its length and its content."""
    return bytes([tag]) + varint(len(content)) + content


def message(documents: bytes) -> bytes:
    """Return a DataRequest for /encode."""
    return part(0x0A, part(0x1A, b"/encode")) + part(0x22, part(0x0A, documents))


def repeated(item: bytes, times: int, before: bytes, after: bytes) -> bytes:
    """Return JSON with a list of `times` items."""
    return before + (item + b",") * (times - 1) + item + after


def frame(kind: int, flags: int, stream: int, content: bytes = b"") -> bytes:
    """Return a frame of HTTP/2."""
    return struct.pack(">I", len(content))[1:] + struct.pack(">BBI", kind, flags, stream) + content


def literal(name: bytes, value: bytes) -> bytes:
    """Return a header as HPACK writes it without an index."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0)


def head_of(method: str) -> bytes:
    """Return the headers of a gRPC call."""
    headers = {b":method": b"POST", b":scheme": b"http", b":path": method.encode(), b":authority": b"localhost"}
    headers |= {b"content-type": b"application/grpc", b"te": b"trailers"}
    return b"".join(literal(name, value) for name, value in headers.items())
