"""Checks the fields of documents in protobuf, before a room converts them, and names the document of a wrong one."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from docarray.proto.io.ndarray import read_ndarray

from finetuner.contract.values import exact
from finetuner.documents.iterate import with_parts
from finetuner.exceptions import InvalidDocument, InvalidInput

ARRAYS = ("tensor", "embedding")
FRAMEWORKS = ("numpy", "list", "torch")  # DocArray would import another one
NUMBERS = "biuf"  # kinds of numpy's types
MAX_DIMENSIONS, MAX_TYPE = 16, 16


def check_fields(messages: Iterable[Any], first: int = 0) -> None:
    """Check the tags and arrays of documents, and of their chunks and matches on every level.

    Args:
        messages: DocumentProtos.
        first: position of the first one.

    Raises:
        InvalidDocument: a number in a tag is not finite, or may have lost digits, see `exact`; or an array's buffer has
            not the size that its shape and type tell.
    """
    for position, message in enumerate(messages, first):
        try:
            for part in with_parts(message):
                _check_struct(part.tags.fields, "tags")
                for name in ARRAYS:
                    if part.HasField(name):
                        _check_array(getattr(part, name), name)
        except InvalidInput as error:
            raise InvalidDocument(f"document {position} ({message.id:.200}): {error}") from None


def numbers_of(message: Any, name: str) -> np.ndarray:
    """Return the array in a field of a DocumentProto. One that a room wrote as a torch tensor would need torch here."""
    array = getattr(message, name)
    array.cls_name = "numpy"
    found: np.ndarray = read_ndarray(array)
    return found


def _check_array(array: Any, name: str) -> None:
    """Check an NdArrayProto. DocArray fills one without a buffer with zeros, as many as its shape says."""
    if array.WhichOneof("content") != "dense":
        raise InvalidInput(f"{name} must be a dense array. Got a sparse or empty one. Send all its numbers.")
    if array.cls_name not in FRAMEWORKS:
        raise InvalidInput(f"{name} must be of {', '.join(FRAMEWORKS)}. Got {array.cls_name!r:.40}. Use numpy.")
    dense = array.dense
    if len(dense.shape) > MAX_DIMENSIONS:
        raise InvalidInput(f"{name} must have at most {MAX_DIMENSIONS} dimensions. Got {len(dense.shape)}.")
    shape = tuple(dense.shape)
    try:
        kind = np.dtype(dense.dtype) if len(dense.dtype) <= MAX_TYPE else None
    except (TypeError, ValueError, SyntaxError):
        kind = None
    if kind is None or kind.kind not in NUMBERS:
        raise InvalidInput(f"{name} must have numbers of a type such as '<f4'. Got {dense.dtype!r:.40}.")
    if (size := math.prod(shape) * kind.itemsize) != len(dense.buffer):
        raise InvalidInput(
            f"{name} of shape {shape} and type {kind.name} must have {size} bytes. Got {len(dense.buffer)}. "
            "Send the array with its own shape."
        )


def _check_struct(fields: Any, name: str) -> None:
    for key, value in fields.items():
        _check(value, f"{name}[{key!r:.80}]")


def _check(value: Any, name: str) -> None:
    match value.WhichOneof("kind"):
        case "number_value":
            exact(value.number_value, name)
        case "struct_value":
            _check_struct(value.struct_value.fields, name)
        case "list_value":
            for position, inner in enumerate(value.list_value.values):
                _check(inner, f"{name}[{position}]")
