"""Embeddings as one array in numpy's file format, for callers that ask with `Accept: application/x-npy`.

JSON writes a float32 in some 20 characters. An array has its 4 bytes, and neither side makes a Python object of each.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from fastapi import Request, Response

from finetuner.exceptions import FinetunerServerError, by_name

from . import documents

NPY = "application/x-npy"
MADE_BY = "finetuner-artifact"
"""Header with the artifact or backbone that made the embeddings."""
DESCRIBED: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {NPY: {"schema": {"type": "string", "format": "binary"}}},
        "description": f"JSON. With `Accept: {NPY}`: the embeddings as a .npy file, (inputs, dim) little-endian "
        f"float32, and the header `{MADE_BY}`. The first error of an input is then the answer.",
    }
}


def wants_npy(request: Request) -> bool:
    """Return whether a caller asks for an array."""
    return NPY in (kind.partition(";")[0].strip().lower() for kind in request.headers.get("accept", "").split(","))


def as_npy(messages: Sequence[Any], name: str) -> Response:
    """Return the embeddings of documents, DocumentProtos, as a .npy file, (documents, dim) little-endian float32.

    Args:
        messages: one at least.
        name: of the field with the documents, for the error of one.

    Raises:
        FinetunerError: the first document's error, or embeddings of two models.
    """
    require_embeddings(messages, name)
    vectors = np.stack([documents.vector_of(message) for message in messages]).astype("<f4", copy=False)
    file = io.BytesIO()
    np.lib.format.write_array(file, vectors, allow_pickle=False)
    return Response(file.getvalue(), media_type=NPY, headers={MADE_BY: model_of(messages)})


def require_embeddings(messages: Sequence[Any], name: str) -> None:
    """Raise the first error of documents, with its position."""
    for number, message in enumerate(messages):
        if (error := documents.error_of(message)) is not None:
            raise by_name(error["type"])(f"{name}[{number}]: {error['message']}")


def model_of(messages: Sequence[Any]) -> str:
    """Return the artifact or backbone that made the embeddings of documents.

    Raises:
        FinetunerServerError: there are two.
    """
    made_by = {documents.artifact_of(message) for message in messages}
    if len(made_by) > 1:
        raise FinetunerServerError("Another model was promoted during the request", "send it again", 503)
    return made_by.pop()
