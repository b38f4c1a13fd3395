"""Jina's gRPC messages, as far as a client needs them.

The field numbers are those of jina.proto and docarray.proto. Documents are kept as bytes here, which have the same
form on the wire. The generated modules of Jina and DocArray would do as well, but importing their packages takes more
than a second.
"""

from __future__ import annotations

import secrets
from typing import Any, NamedTuple

from google.protobuf import (  # type: ignore[import-untyped]
    descriptor_pb2,
    descriptor_pool,
    json_format,
    message_factory,
    struct_pb2,
)

from ..contract import wire

SINGLE_REQUEST = "/jina.JinaSingleDataRequestRPC/process_single_data"
STATUS = "/jina.JinaInfoRPC/_status"
FAILED = 1  # StatusProto.ERROR

_Field = descriptor_pb2.FieldDescriptorProto
_STRUCT = ".google.protobuf.Struct"
# message -> (field, number, type), repeated fields with a *
_MESSAGES: dict[str, tuple[tuple[str, int, Any], ...]] = {
    "Status": (("code", 1, _Field.TYPE_INT32), ("description", 2, _Field.TYPE_STRING)),
    "Header": (
        ("request_id", 1, _Field.TYPE_STRING),
        ("status", 2, ".finetuner.transport.Status"),
        ("exec_endpoint", 3, _Field.TYPE_STRING),
    ),
    "Content": (("docs", 1, _Field.TYPE_BYTES),),
    "Request": (
        ("header", 1, ".finetuner.transport.Header"),
        ("parameters", 2, _STRUCT),
        ("data", 4, ".finetuner.transport.Content"),
    ),
    "Reply": (("text", 4, _Field.TYPE_STRING), ("tags", 17, _STRUCT)),
    "Replies": (("*docs", 1, ".finetuner.transport.Reply"),),
    "Variable": (("key", 1, _Field.TYPE_STRING), ("value", 2, _Field.TYPE_STRING)),
    "Info": (("*envs", 2, ".finetuner.transport.Variable"),),
}


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="finetuner/transport.proto", package="finetuner.transport", syntax="proto3"
    )
    file.dependency.append(struct_pb2.DESCRIPTOR.name)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            label = _Field.LABEL_REPEATED if field.startswith("*") else _Field.LABEL_OPTIONAL
            added = message.field.add(name=field.removeprefix("*"), number=number, label=label)
            if isinstance(kind, str):
                added.type, added.type_name = _Field.TYPE_MESSAGE, kind
            else:
                added.type = kind
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"finetuner.transport.{name}"))
        for name in _MESSAGES
    }


_CLASSES = _classes()


class Answer(NamedTuple):
    """A Flow's answer to a request."""

    failure: str
    """Description of a room's exception, '' for none."""
    docs: bytes
    """A serialized `DocumentArrayProto`."""


def request(endpoint: str, docs: bytes, parameters: dict[str, Any]) -> bytes:
    """Return a serialized request.

    Args:
        endpoint: such as '/search'.
        docs: a serialized `DocumentArrayProto`, b'' for no documents.
        parameters: values that JSON has.
    """
    message = _CLASSES["Request"]()
    message.header.request_id = secrets.token_hex(16)
    message.header.exec_endpoint = endpoint
    message.parameters.update(parameters)
    message.data.docs = docs
    return bytes(message.SerializeToString())


def read_answer(message: bytes) -> Answer:
    """Return a parsed answer.

    Raises:
        DecodeError: `message` is none.
    """
    read = _CLASSES["Request"].FromString(message)
    status = read.header.status
    return Answer(status.description or "unknown error" if status.code >= FAILED else "", read.data.docs)


def read_replies(docs: bytes) -> list[wire.Reply]:
    """Return the replies in a serialized `DocumentArrayProto`.

    Raises:
        DecodeError: `docs` is none.
    """
    return [
        wire.Reply(document.text, json_format.MessageToDict(document.tags))
        for document in _CLASSES["Replies"].FromString(docs).docs
    ]


def read_environment(message: bytes) -> dict[str, str]:
    """Return the environment in the answer of STATUS, by name."""
    return {variable.key: variable.value for variable in _CLASSES["Info"].FromString(message).envs}
