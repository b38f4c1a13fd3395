"""One request to a Flow over gRPC, with a connection of its own.

An open connection would hang processes that are forked from this one, such as rooms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from ..contract import wire
from . import messages
from .errors import of_grpc, of_room

if TYPE_CHECKING:
    from docarray import DocumentArray

SECURE = "grpcs"
# As Jina's own client has them: a message has any size, and an operation of hours ends if the Flow's machine goes away.
OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.keepalive_time_ms", 9999),
    ("grpc.keepalive_timeout_ms", 4999),
    ("grpc.keepalive_permit_without_calls", True),
)


class GrpcAnswer(NamedTuple):
    """The documents of an answer, as bytes."""

    docs: bytes
    """A serialized `DocumentArrayProto`."""

    def replies(self) -> list[wire.Reply]:
        """Return text and tags of each document, without DocArray."""
        return messages.read_replies(self.docs)

    def documents(self) -> DocumentArray:
        """Return the documents."""
        from docarray import DocumentArray
        from docarray.proto.docarray_pb2 import DocumentArrayProto

        return DocumentArray.from_protobuf(DocumentArrayProto.FromString(self.docs))


def ask(host: str, token: str, endpoint: str, docs: bytes, parameters: dict[str, Any]) -> GrpcAnswer:
    """Send one request and return its answer.

    Args:
        host: 'grpc://HOST:PORT' or 'grpcs://HOST:PORT'.
        token: '' for none.
        endpoint: such as '/search'.
        docs: a serialized `DocumentArrayProto`.
        parameters: values that JSON has.

    Raises:
        FinetunerError: see `Connection.post`.
    """
    import grpc
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    asked = messages.request(endpoint, docs, parameters)
    try:
        answer = messages.read_answer(call(host, token, messages.SINGLE_REQUEST, asked))
    except grpc.RpcError as error:
        raise of_grpc(error, endpoint, host) from error
    except DecodeError as error:
        raise of_room(f"the answer is no message of a Flow: {error}", endpoint, host) from error
    if answer.failure:
        raise of_room(answer.failure, endpoint, host)
    return GrpcAnswer(answer.docs)


def call(host: str, token: str, method: str, message: bytes, seconds: float | None = None) -> bytes:
    """Call a method with one serialized message and return the serialized answer.

    Args:
        host: 'grpc://HOST:PORT' or 'grpcs://HOST:PORT'.
        token: '' for none.
        method: such as '/jina.JinaInfoRPC/_status'.
        message: its argument.
        seconds: limit for the answer, None for none.

    Raises:
        grpc.RpcError: no answer.
    """
    import grpc

    parts = urlsplit(host)
    if parts.scheme == SECURE:
        channel = grpc.secure_channel(parts.netloc, grpc.ssl_channel_credentials(), OPTIONS)
    else:
        channel = grpc.insecure_channel(parts.netloc, OPTIONS)
    metadata = (("authorization", f"token {token}"),) if token else ()
    with channel:
        answer: bytes = channel.unary_unary(method)(message, metadata=metadata, timeout=seconds)
    return answer
