"""What a document must carry when it arrives here: a vector, and which artifact made it."""

from __future__ import annotations

import numpy as np
from docarray import Document
from numpy.typing import NDArray

from finetuner.exceptions import InvalidDocument
from finetuner.wire import ARTIFACT_TAG

# What a Qdrant server takes; the embedded engine has no bound of its own.
MAX_DIM = 65536


def artifact_of(document: Document) -> str:
    """Return the id of the artifact that made the document's embedding.

    Raises:
        InvalidDocument: no such tag, or not a string. A vector without provenance is never compared.
    """
    artifact = document.tags.get(ARTIFACT_TAG)
    if isinstance(artifact, str) and artifact:
        return artifact
    got = "no such tag" if artifact is None else repr(artifact)
    raise InvalidDocument(
        f"an embedding must come with the tag {ARTIFACT_TAG!r}, the id of the artifact that made it. "
        f"Got {got}. Let the Flow's encoders make the embedding, or set the tag beside your own."
    )


def vector_of(document: Document) -> NDArray[np.float32]:
    """Return the document's embedding, (dim,) float32, L2-normalised.

    Raises:
        InvalidDocument: no embedding, not one vector of numbers, NaN or infinity in it, or all zeros.
    """
    if document.embedding is None:
        kind = document.content_type or ("uri" if document.uri else None)
        got = f"{kind} that no encoder of this Flow took" if kind else "neither content nor embedding"
        raise InvalidDocument(
            f"a document must have content that an encoder takes, or an embedding. Got {got}. "
            "Send text, a picture, or an embedding with its artifact's tag."
        )
    try:
        # float64, so that 1e300 and 1e-30 are scaled below and not lost to float32 here
        vector: NDArray[np.float64] = np.asarray(document.embedding, dtype=np.float64)
    except (TypeError, ValueError):
        kind = type(document.embedding).__name__
        raise InvalidDocument(
            f"embedding must be a dense vector of numbers. Got a {kind}. Send a list or a numpy array."
        ) from None
    if vector.ndim != 1 or not 1 <= vector.size <= MAX_DIM:
        raise InvalidDocument(
            f"embedding must be one vector of 1 to {MAX_DIM} numbers. Got shape {vector.shape}. "
            "Send one vector a document."
        )
    if not np.isfinite(vector).all():
        position = int(np.flatnonzero(~np.isfinite(vector))[0])
        raise InvalidDocument(
            f"embedding must be finite. Got {vector[position]} at position {position}. Check the model that made it."
        )
    largest = np.abs(vector).max()
    if largest == 0:
        raise InvalidDocument(
            "embedding must have a direction. Got a zero vector, which has no cosine with anything. "
            "Check the model that made it."
        )
    vector = vector / largest
    return (vector / np.linalg.norm(vector)).astype(np.float32)
