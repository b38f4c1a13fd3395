"""A Flow at the other end of two pipes: a gateway starts a process of this client, and answers its requests.

The process needs no address and no token, and reaches what the gateway lets through. Each frame is a JSON object with
its length before it, 8 bytes big-endian, and then the `size` bytes that the object names.
"""

from __future__ import annotations

import json
from typing import IO, Any

from ..contract.values import plain
from ..exceptions import FlowUnreachable, by_name
from .connection import Connection
from .over_grpc import GrpcAnswer

LENGTH = 8
MAX_HEAD = 2**26  # bytes of a JSON object; marks have images of queries in them


class PipeConnection(Connection):
    """A connection over pipes.

    Args:
        reader: answers of the gateway.
        writer: requests to it.
    """

    def __init__(self, reader: IO[bytes], writer: IO[bytes]) -> None:
        super().__init__()
        self._reader, self._writer = reader, writer

    def ask(self, endpoint: str, documents: Any, parameters: dict[str, Any]) -> GrpcAnswer:
        """Send one request; see `Connection.ask`."""
        sent = {name: plain(value, name, sets=True) for name, value in parameters.items()}
        docs = b"" if documents is None or not len(documents) else documents.to_protobuf().SerializeToString()
        write_frame(self._writer, {"endpoint": endpoint, "parameters": sent}, docs)
        answer, content = read_frame(self._reader)
        if "type" in answer:
            raise by_name(str(answer["type"]))(str(answer["message"]))
        return GrpcAnswer(content)


def write_frame(pipe: IO[bytes], head: dict[str, Any], content: bytes = b"") -> None:
    """Write one frame."""
    text = json.dumps({**head, "size": len(content)}).encode()
    pipe.write(len(text).to_bytes(LENGTH, "big") + text + content)
    pipe.flush()


def read_frame(pipe: IO[bytes], most: int = 2**31) -> tuple[dict[str, Any], bytes]:
    """Return the next frame, as its object and its bytes.

    Raises:
        FlowUnreachable: the other end is closed, or has sent a frame of more than MAX_HEAD or `most` bytes.
    """
    length = int.from_bytes(_exactly(pipe, LENGTH), "big")
    if length > MAX_HEAD:
        raise FlowUnreachable(f"a frame must begin with at most {MAX_HEAD} bytes. Got {length}. Report this error.")
    head = json.loads(_exactly(pipe, length))
    size = int(head.pop("size"))
    if not 0 <= size <= most:
        raise FlowUnreachable(f"a frame must have at most {most} bytes. Got {size}. Report this error.")
    return head, _exactly(pipe, size)


def _exactly(pipe: IO[bytes], count: int) -> bytes:
    content = pipe.read(count)
    if len(content) != count:
        raise FlowUnreachable("The other end of the pipe is closed. See the gateway's log.")
    return content
