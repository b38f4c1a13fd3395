"""Reads and checks a document's vector and its artifact; joins the vectors of several parts."""

from __future__ import annotations

from typing import Any

import numpy as np
from docarray import Document
from numpy.typing import NDArray

from finetuner.contract.wire import ARTIFACT_TAG, TOWER_TAG, error_of
from finetuner.documents.parts import has_own_content, parts_of
from finetuner.exceptions import InvalidDocument

# Limit of a Qdrant server; the embedded engine has no limit.
MAX_DIM = 65536
# A shorter weighted sum of unit vectors is a rounding error, not a direction.
CANCELED = 1e-6


def artifact_of(document: Document) -> str:
    """Return the id of the artifact that made the document's embedding.

    Raises:
        InvalidDocument: the tag is missing or no string. A vector without provenance is never compared.
    """
    artifact = document.tags.get(ARTIFACT_TAG)
    if isinstance(artifact, str) and artifact:
        return artifact
    got = "no such tag" if artifact is None else repr(artifact)
    raise InvalidDocument(
        f"an embedding must have the tag {ARTIFACT_TAG!r} with the id of its artifact. "
        f"Got {got}. Let the Flow's encoders make the embedding, or set the tag yourself."
    )


def take_tower(document: Document) -> str:
    """Return the tower that made a document's embedding, and take the encoders' tags with it off.

    Returns:
        'clip-text' or 'clip-vision'. '' where it is not known, or parts are of both.
    """
    towers = {part.tags.pop(TOWER_TAG, "") for part in parts_of(document)}
    document.tags.pop(TOWER_TAG, None)
    return str(towers.pop()) if len(towers) == 1 else ""


def vector_of(document: Document) -> NDArray[np.float32]:
    """Return the document's embedding, (dim,) float32, L2-normalised.

    Raises:
        InvalidDocument: no embedding, not one vector of numbers, or one with NaN, infinity or zeros only.
    """
    if document.embedding is None:
        kind = document.content_type or ("uri" if document.uri else None)
        got = f"{kind} that no encoder of this Flow accepted" if kind else "neither content nor embedding"
        raise InvalidDocument(
            f"a document must have content that an encoder accepts, or an embedding. Got {got}. "
            "Send text, an image, or an embedding with its artifact's tag."
        )
    try:
        # float64 keeps 1e300 and 1e-30 until they are scaled below; float32 would lose them
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
            "embedding must have a direction. Got a zero vector, which has no cosine similarity. "
            "Check the model that made it."
        )
    vector = vector / largest
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def check_size(vector: NDArray[np.float32], dim: int, artifact: str) -> None:
    """Check that a vector has the size of the others of its artifact.

    Raises:
        InvalidDocument: it has not.
    """
    if len(vector) != dim:
        raise InvalidDocument(
            f"embedding must have shape ({dim},), as all others of artifact {artifact!r}. Got {vector.shape}. "
            "Encode it with that artifact."
        )


def join_parts(document: Document) -> None:
    """Set a document's embedding to the direction of its parts' sum(weight * vector), and copy their artifact tag.

    A search then ranks documents by the weighted sum of the similarities with their parts, and finds each document
    once. The `weight` of a part is any number. DocArray cannot distinguish 0 from a missing weight, so both count
    as 1. A negative weight turns a query away from its part. A document with its own embedding or content does not
    change.

    Args:
        document: with encoded parts; changed in place.

    Raises:
        FinetunerError: the first error of a part.
        InvalidDocument: a part without vector or tag, parts of several artifacts, or weights that cancel out.
    """
    if document.embedding is not None or not document.chunks or has_own_content(document):
        return
    artifacts: set[str] = set()
    total: Any = 0
    for number, part in enumerate(document.chunks):
        if (error := error_of(part)) is not None:
            raise error
        if not np.isfinite(part.weight or 1):
            raise InvalidDocument(f"weight of chunk {number} must be finite. Got {part.weight}. Set another.")
        artifacts.add(artifact_of(part))
        if len(artifacts) > 1:
            raise InvalidDocument(
                f"the chunks of a document must be of one artifact. Got {' and '.join(sorted(artifacts))}. "
                "Send it again."
            )
        total = total + (part.weight or 1) * vector_of(part)
    if not np.linalg.norm(total) > CANCELED:
        raise InvalidDocument("the chunks of a document must not cancel each other out. They do. Change a `weight`.")
    document.embedding = total
    document.tags[ARTIFACT_TAG] = artifacts.pop()
