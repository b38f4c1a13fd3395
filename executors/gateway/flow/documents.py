"""Documents between JSON and Jina's requests, in the form that jina.Client(protocol='http') uses.

{"data": [{"text": ...}, {"blob": base64}, {"uri": ...}], "parameters": {...}}
{"header": {...}, "parameters": {...}, "data": [{"id": ..., "embedding": [...], "tags": {...}}]}
"""

from __future__ import annotations

import binascii
import json
from typing import Any

import numpy as np
from docarray import Document, DocumentArray
from docarray.document.pydantic_model import PydanticDocument
from jina.types.request.data import DataRequest

from finetuner.contract.values import count_values
from finetuner.contract.wire import ERROR_TAG, MAX_MESSAGE_DOCUMENTS, MAX_MESSAGE_PARTS, MAX_PARAMETER_PARTS
from finetuner.exceptions import FinetunerError, InvalidInput
from finetuner.executors.room.bounds import too_many_documents, too_many_parts
from finetuner.inference.encoding import MAX_TEXT

from ..access.roles import WITHOUT_DOCUMENTS
from .body import CONTROL, DOCUMENTS, parse_json
from .fields import ARRAYS, numbers_of
from .shortcut import ENCODED

FIELDS = (*PydanticDocument.__fields__, "_metadata")
PARTS = ("chunks", "matches")
VALUES = ("tags", "_metadata", "scores", "evaluations")
ITEMS = 2**14  # numbers that are written at once
CONTENTS = ("text", "blob", "tensor")  # a document has one of them; DocArray would silently drop the first of two


def read_request(body: bytes, endpoint: str) -> DataRequest:
    """Return the request that a JSON body describes.

    Args:
        body: UTF-8 JSON.
        endpoint: path such as '/encode'; for '/post', the body names the endpoint.

    Raises:
        InvalidInput: not JSON, another structure, or a document that cannot be read.
    """
    limits = CONTROL if endpoint in WITHOUT_DOCUMENTS else DOCUMENTS
    content = parse_json(body, limits) if body.strip() else {}
    if not isinstance(content, dict):
        raise InvalidInput(
            f'The body must be an object {{"data": [...], "parameters": {{...}}}}. Got {type(content).__name__}.'
        )
    request = DataRequest()
    request.header.exec_endpoint = _endpoint(content) if endpoint == "/post" else endpoint
    request.header.target_executor = _room(content)
    try:
        request.parameters = _parameters(content)
        request.data.docs = _documents(content, request.header.exec_endpoint)
    except InvalidInput:
        raise
    except (ValueError, TypeError, OverflowError, RecursionError) as error:  # protobuf cannot carry the value
        raise InvalidInput(f"The body must hold values that protobuf can carry. Got another: {error}.") from None
    return request


def _endpoint(content: dict[str, Any]) -> str:
    endpoint = content.get("exec_endpoint", content.get("execEndpoint"))
    if not isinstance(endpoint, str) or not endpoint.startswith("/"):
        raise InvalidInput(f"exec_endpoint must be a path such as '/encode'. Got {endpoint!r}.")
    return endpoint


def _room(content: dict[str, Any]) -> str:
    room = content.get("target_executor", content.get("targetExecutor"))
    if room is None:
        return ""
    if not isinstance(room, str):
        raise InvalidInput(f"target_executor must be the name of a room. Got {room!r:.80}. Name one, or leave it out.")
    return room


def _parameters(content: dict[str, Any]) -> dict[str, Any]:
    parameters = content.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise InvalidInput(f"parameters must be an object. Got {type(parameters).__name__}.")
    check_parameters(parameters)
    return parameters


def check_parameters(parameters: dict[str, Any]) -> None:
    """Check the number of values in a request's parameters.

    Raises:
        InvalidInput: more than half of MAX_PARAMETER_PARTS; protobuf needs two fields for a value.
    """
    if count_values(parameters) > MAX_PARAMETER_PARTS // 2:
        raise too_many_parts(MAX_PARAMETER_PARTS)


def _documents(content: dict[str, Any], endpoint: str) -> DocumentArray:
    data = content.get("data")
    if isinstance(data, dict):  # {"docs": [...]}, an older form that Jina still accepts
        data = data.get("docs")
    if data is None:
        return DocumentArray()
    if not isinstance(data, list):
        raise InvalidInput(f"data must be a list of documents. Got {type(data).__name__}.")
    _check_count(data)
    if endpoint in ENCODED:
        for fields in data:  # DocArray's documents stay until garbage collection
            if isinstance(fields, dict) and isinstance(text := fields.get("text"), str) and not fields.get("embedding"):
                fields["text"] = text[: MAX_TEXT + 1]
    return DocumentArray([_document(number, fields) for number, fields in enumerate(data)])


def _check_count(data: list[Any]) -> None:
    """Check the number of documents with their chunks and matches, and of the values in their tags."""
    documents, values, waiting = 0, 0, [data]
    while waiting:
        level = waiting.pop()
        documents += len(level)
        if documents > MAX_MESSAGE_DOCUMENTS:
            raise too_many_documents()
        for fields in filter(lambda each: isinstance(each, dict), level):
            waiting += [parts for name in PARTS if isinstance(parts := fields.get(name), list)]
            values += sum(count_values(fields[name]) for name in VALUES if name in fields)
        if values > MAX_MESSAGE_PARTS // 2:
            raise too_many_parts(MAX_MESSAGE_PARTS)


def _document(number: int, fields: Any) -> Document:
    if not isinstance(fields, dict):
        raise InvalidInput(f'data[{number}] must be an object such as {{"text": ...}}. Got {fields!r:.60}.')
    if unknown := [name for name in fields if name not in FIELDS]:
        raise InvalidInput(
            f"data[{number}] must have only the fields text, blob (base64), uri, tags, id, or another of "
            f"{', '.join(FIELDS)}. Got {unknown[0]!r:.60}. Leave it out."
        )
    if len(given := [name for name in CONTENTS if fields.get(name)]) > 1:
        raise InvalidInput(
            f"data[{number}] must have one of {', '.join(CONTENTS)}. Got {' and '.join(given)}. Send two documents."
        )
    if isinstance(blob := fields.get("blob"), str):
        try:
            binascii.a2b_base64(blob, strict_mode=True)
        except (binascii.Error, ValueError):
            raise InvalidInput(f"data[{number}].blob must be base64. Got {blob!r:.40}.") from None
    arrays = {name: fields[name] for name in ARRAYS if isinstance(fields.get(name), list)}
    try:
        document = Document.from_dict({name: value for name, value in fields.items() if name not in arrays})
        for name, values in arrays.items():  # pydantic would copy the numbers one by one
            setattr(document, name, np.array(values))
        return document
    except (ValueError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise InvalidInput(f"data[{number}] must be a document. Got: {reason:.300}.") from None


def write_response(response: DataRequest) -> bytes:
    """Return a response as JSON.

    Raises:
        ValueError: NaN or an infinite number, which JSON cannot hold.
    """
    arrays = [_taken(document) for document in response.proto_with_data.data.docs.docs]
    content = response.to_dict()
    header, parameters = content.get("header", {}), content.get("parameters", {})
    start = json.dumps(
        {"header": header, "parameters": parameters, "routes": content.get("routes", [])}, allow_nan=False
    )
    documents = zip(content["data"], arrays, strict=True)
    data = ", ".join(_text(_without_nulls(document) | numbers) for document, numbers in documents)
    return f'{start[:-1]}, "data": [{data}]}}'.encode()


def _taken(document: Any) -> dict[str, list[Any]]:
    """Remove the arrays of a document's message, and return their numbers. Pydantic would copy them one by one."""
    taken = {}
    for name in ARRAYS:
        if document.HasField(name):
            taken[name] = numbers_of(document, name).tolist()
            document.ClearField(name)
    return taken


def _text(document: dict[str, Any]) -> str:
    return "{" + ", ".join(f'"{name}": {_numbers(value)}' for name, value in document.items()) + "}"


def _numbers(value: Any) -> str:
    """Return a value as JSON, in pieces of ITEMS: Python's lock is held for each, which took a second for a million."""
    if not isinstance(value, list) or not value:
        return json.dumps(value, allow_nan=False)
    if isinstance(value[0], list):
        return f"[{', '.join(map(_numbers, value))}]"
    pieces = (value[start : start + ITEMS] for start in range(0, len(value), ITEMS))
    return f"[{', '.join(json.dumps(piece, allow_nan=False)[1:-1] for piece in pieces)}]"


def response_status(response: DataRequest) -> int:
    """Return the highest status of the documents' errors if every document has one, else 200."""
    documents = response.proto_with_data.data.docs.docs
    if not documents or not all(ERROR_TAG in document.tags for document in documents):
        return 200
    return max(_status(document.tags[ERROR_TAG]) for document in documents)


def _status(tag: Any) -> int:
    """Return the status in an error tag, 500 for a tag that is not ours: senders may set the same tag."""
    status = tag["status"] if hasattr(tag, "fields") and "status" in tag else None  # Struct or plain value
    return int(status) if isinstance(status, float) and 400 <= status < 600 else FinetunerError.status


def _without_nulls(document: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in document.items() if value is not None}
    for name in kept.keys() & {"chunks", "matches"}:
        kept[name] = [_without_nulls(part) for part in kept[name]]
    return kept
