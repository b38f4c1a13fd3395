"""One request to a Flow over gRPC."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from ..contract import wire
from . import messages
from .channels import channel, load_grpc
from .errors import of_grpc, of_room, of_stranger

if TYPE_CHECKING:
    from docarray import DocumentArray

# Seconds before a read is sent again whose connection broke: the gateway restarts, or a proxy closed it.
PAUSES = (0.1, 0.5, 2.0)


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
    """Send one request and return its answer. A request that only reads is sent again if its connection breaks.

    Args:
        host: 'grpc://HOST:PORT' or 'grpcs://HOST:PORT'.
        token: '' for none.
        endpoint: such as '/search'.
        docs: a serialized `DocumentArrayProto`.
        parameters: values that JSON has.

    Raises:
        FinetunerError: see `Connection.post`.
    """
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    asked = messages.request(endpoint, docs, parameters)
    try:
        answer = messages.read_answer(_answer(host, token, endpoint, asked))
    except DecodeError as error:
        raise of_stranger(host, f"an answer that is no message of a Flow: {error}") from error
    if answer.failure:
        raise of_room(answer.failure, endpoint, host)
    return GrpcAnswer(answer.docs)


def _answer(host: str, token: str, endpoint: str, asked: bytes) -> bytes:
    grpc, _ = load_grpc()
    for pause in (*PAUSES, None):
        try:
            return call(host, token, messages.SINGLE_REQUEST, asked, wire.ANSWER_SECONDS)
        except grpc.RpcError as error:
            named = wire.ERROR_METADATA in dict(error.trailing_metadata() or ())
            broken = error.code() is grpc.StatusCode.UNAVAILABLE and not named
            if pause is None or not broken or endpoint not in wire.READS:
                raise of_grpc(error, endpoint, host) from error
        time.sleep(pause)
    raise AssertionError


def call(host: str, token: str, method: str, message: bytes, seconds: float) -> bytes:
    """Call a method with one serialized message and return the serialized answer.

    Args:
        host: 'grpc://HOST:PORT' or 'grpcs://HOST:PORT'.
        token: '' for none.
        method: such as '/jina.JinaInfoRPC/_status'.
        message: its argument.
        seconds: limit for the answer.

    Raises:
        grpc.RpcError: no answer.
        FlowUnreachable: see `channel`.
    """
    metadata = (("authorization", f"token {token}"),) if token else ()
    with channel(host) as opened:
        answer: bytes = opened.unary_unary(method)(message, metadata=metadata, timeout=seconds)
    return answer
