"""Conversion of /v1 documents to DocArray's protobuf messages and back."""

from __future__ import annotations

import asyncio
import base64
import binascii
import uuid
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from docarray.proto.docarray_pb2 import DocumentProto
from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]

from finetuner.contract.wire import ARTIFACT_TAG, ERROR_TAG, EXAMPLE_TAG, NEGATIVE, POSITIVE, SEARCH_TAG
from finetuner.exceptions import FinetunerServerError, InvalidInput, by_name

from ..access.errors import error_body
from ..flow.calls import SMALL, aside
from ..flow.fields import numbers_of
from .document_forms import Document, Example, Part

Message = Any
"""A DocumentProto, which is not typed."""


Result = TypeVar("Result")

DESCRIBED = 2**14  # bytes of an answer that is written at once, without a thread


async def to_messages(documents: Sequence[Document], where: str = "documents") -> list[Message]:
    """Return documents as messages.

    Args:
        documents: of a body.
        where: field of the body, for error messages.

    Raises:
        InvalidInput: a blob that is not base64.
    """
    size = sum(len(part.text or part.blob or "") for each in documents for part in (each, *(each.chunks or ())))
    size += sum(SMALL + 1 for each in documents if each.tags)
    return await aside(size, partial(_messages, documents, where))


def _messages(documents: Sequence[Document], where: str) -> list[Message]:
    messages = []
    for number, document in enumerate(documents):
        message = DocumentProto(id=document.id or uuid.uuid4().hex)
        message.tags.update(document.tags)
        _fill(message, document, f"{where}[{number}]")
        for index, part in enumerate(document.chunks or ()):
            chunk = message.chunks.add(id=uuid.uuid4().hex, parent_id=message.id, granularity=1)
            chunk.weight = part.weight or 0.0  # 0 means 1
            _fill(chunk, part, f"{where}[{number}].chunks[{index}]")
        messages.append(message)
    return messages


async def with_examples(
    queries: Sequence[Any], positives: Sequence[Example], negatives: Sequence[Example]
) -> list[Any]:
    """Return the queries with the examples' contents as chunks. Examples by id travel as parameters.

    Args:
        queries: DocumentProtos; none for a search by examples alone.
        positives: examples to look like.
        negatives: examples to look unlike.

    Raises:
        InvalidInput: a blob that is not base64.
    """
    chunks = []
    for name, side, examples in (("positives", POSITIVE, positives), ("negatives", NEGATIVE, negatives)):
        contents = [Document(**example.dict(exclude={"id"})) for example in examples if example.id is None]
        for chunk in await to_messages(contents, name):
            chunk.tags[EXAMPLE_TAG], chunk.granularity = side, 1
            chunks.append(chunk)
    made = []
    for query in queries or [DocumentProto(id=uuid.uuid4().hex)]:
        if chunks and query.WhichOneof("content") is None and not query.uri:
            query.chunks.extend(chunks)
        elif chunks:
            own = DocumentProto()
            own.CopyFrom(query)
            own.id, own.granularity = uuid.uuid4().hex, 1
            query = DocumentProto(id=query.id, chunks=[own, *chunks])
        made.append(query)
    return made


async def described(messages: Sequence[Message], describe: Callable[[], Result]) -> Result:
    """Return the result of `describe`, which reads messages: in a thread, if they are large."""
    if sum(message.ByteSize() for message in messages) <= DESCRIBED:
        return describe()
    return await asyncio.to_thread(describe)


def of_text(text: str) -> Message:
    """Return a document of a text alone as a message."""
    return DocumentProto(id=uuid.uuid4().hex, text=text, mime_type="text/plain")


def _fill(message: Message, content: Document | Part, where: str) -> None:
    if content.text is not None:
        message.text, message.mime_type = content.text, "text/plain"
    elif content.uri is not None:
        message.uri = content.uri
    elif content.blob is not None:
        try:
            message.blob = base64.b64decode(content.blob, validate=True)
        except (binascii.Error, ValueError):
            raise InvalidInput(f"{where}.blob must be base64. Got {content.blob!r:.40}.") from None


def require_all(messages: Sequence[Message], asked: Sequence[Message]) -> None:
    """Check that the rooms have answered every document.

    Raises:
        FinetunerServerError
    """
    if len(messages) != len(asked):
        raise FinetunerServerError(
            f"The rooms must answer {len(asked)} documents. Got {len(messages)}. See their logs."
        )


def error_of(message: Message) -> dict[str, Any] | None:
    """Return a document's error as {'type', 'message', 'status'}, None without one."""
    if ERROR_TAG not in message.tags.fields:
        return None
    error: dict[str, Any] = MessageToDict(message.tags.fields[ERROR_TAG].struct_value)
    return {"type": error["type"], "message": error["message"], "status": int(error["status"])}


def or_raise(messages: list[Message]) -> list[Message]:
    """Return the documents of a room's answer, or raise its error.

    Raises:
        FinetunerError: of the class that the room named.
    """
    if len(messages) == 1 and (error := error_of(messages[0])) is not None:
        raise by_name(error["type"])(error["message"])
    return messages


def artifact_of(message: Message) -> str:
    """Return the artifact or backbone that made a document's embedding."""
    return str(message.tags.fields[ARTIFACT_TAG].string_value)


def vector_of(message: Message) -> Any:
    """Return a document's embedding, (dim,) float32.

    Raises:
        FinetunerServerError: no embedding.
    """
    if not message.HasField("embedding"):
        raise FinetunerServerError(
            f"document {message.id!r} must have an embedding. Got none. Check that this Flow has an encoder for it."
        )
    return numbers_of(message, "embedding")


def encoded(message: Message) -> dict[str, Any]:
    """Return an `Encoded`."""
    if (error := error_of(message)) is not None:
        return {"id": message.id, "error": error}
    return {"id": message.id, "artifact": artifact_of(message), "embedding": vector_of(message).tolist()}


def found(message: Message) -> dict[str, Any]:
    """Return a `Found`."""
    tags = {name: _plain(value) for name, value in message.tags.fields.items() if name != ARTIFACT_TAG}
    shown: dict[str, Any] = {"id": message.id, "tags": tags}
    shown |= _content(message)
    if message.chunks:
        shown["chunks"] = [_content(chunk) for chunk in message.chunks]
    return shown


def match(message: Message) -> dict[str, Any]:
    """Return a `Match`."""
    shown = {"score": message.scores["cosine"].value, **found(message)}
    if len(message.scores) > 1:
        shown["scores"] = {name: score.value for name, score in message.scores.items()}
    return shown


def _plain(value: Any) -> Any:
    """Return a protobuf Value as JSON has it; MessageToDict takes five times as long, for each match of each search."""
    match value.WhichOneof("kind"):
        case None | "null_value":
            return None
        case "struct_value":
            return {name: _plain(inner) for name, inner in value.struct_value.fields.items()}
        case "list_value":
            return [_plain(inner) for inner in value.list_value.values]
        case kind:
            return getattr(value, kind)


def _content(message: Message) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    match message.WhichOneof("content"):
        case "text":
            shown["text"] = message.text
        case "blob":
            shown["blob"] = base64.b64encode(message.blob).decode()
    for name in ("uri", "mime_type", "modality", "weight"):
        if value := getattr(message, name):
            shown[name] = value
    return shown


def report_of(query: Any) -> dict[str, Any]:
    """Return what the answer to a query says beside its matches, with whole numbers of protobuf's floats."""
    report: dict[str, Any] = MessageToDict(query.tags.fields[SEARCH_TAG].struct_value)
    if "hidden" in report:
        report["hidden"] = int(report["hidden"])
    for counted in report.get("facets", {}).values():
        for entry in (*counted.get("values", ()), *counted.get("ranges", ())):
            entry["count"] = int(entry["count"])
    return report


def failed_all(messages: Sequence[Message]) -> tuple[int, dict[str, Any]]:
    """Return the status of an answer of several documents, and its fields of a `Failure` if every document has failed.

    The first of the errors with the highest status stands for all.
    """
    errors = [error for message in messages if (error := error_of(message)) is not None]
    if not errors or len(errors) < len(messages):
        return 200, {}
    worst = max(errors, key=lambda error: int(error["status"]))
    return worst["status"], error_body(by_name(worst["type"])(worst["message"]))
