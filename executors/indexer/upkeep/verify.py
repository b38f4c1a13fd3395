"""Verifies that every document has its vector and every vector its document."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from finetuner.exceptions import FinetunerServerError
from finetuner.executors.indexer.index import Index

# Documents checked while writes wait: about 2 ms with 512 dimensions.
PAGE = 100
# Rounding to float32 changes a length by 1e-7; losing one typical number of 512 changes it by 1e-3.
TOLERANCE = 1e-5


def verify_index(index: Index) -> dict[str, Any]:
    """Compare all documents with their vectors while other threads search and write.

    Returns:
        {'documents': count, 'vectors': {artifact: count}}.

    Raises:
        FinetunerServerError: describes the first fault.
    """
    if (found := index.documents.check()) != "ok":
        raise _damaged(f"documents.sqlite must be intact. SQLite found: {found}")
    for artifact in index.collections.all():
        after: str | None = ""
        while after is not None:
            with index.writing:
                lost, after = lost_vectors(index, artifact, after)
            if lost:
                raise _damaged(f"{artifact!r} must have a vector of length 1 for {lost[0]!r}. It is lost or damaged")
        while True:
            with index.writing:
                alone, after = lone_vectors(index, artifact, after)
                known = index.documents.versions(alone)  # of a write that was killed before its acknowledgement
            if unknown := [key for key in alone if key not in known]:
                raise _damaged(f"every vector of {artifact!r} must have its document. That of {unknown[0]!r} has none")
            if after is None:
                break
    return {"documents": len(index.documents), "vectors": index.counts()}


def lost_vectors(index: Index, artifact: str, after: str) -> tuple[list[str], str | None]:
    """Check the next documents of an artifact. The caller holds the lock of writes.

    Returns:
        Ids without an intact vector, and the next `after`; None at the end.
    """
    ids = index.documents.encoded_ids(artifact, after, PAGE)
    vectors = index.collection(artifact).get(ids) if ids else {}
    lost = [key for key in ids if key not in vectors or not _is_unit(vectors[key])]
    return lost, ids[-1] if ids else None


def lone_vectors(index: Index, artifact: str, after: str | None) -> tuple[list[str], str | None]:
    """Check the next vectors of an artifact. The caller holds the lock of writes.

    Returns:
        Ids of vectors without a document, and the next `after`; None at the end.
    """
    points, after = index.collection(artifact).scroll(after, PAGE, vectors=False)
    return index.documents.missing(artifact, [point.id for point in points]), after


def _is_unit(vector: NDArray[np.float32]) -> bool:
    """Return whether a vector has length 1, as every stored vector. Only a flipped sign goes unnoticed."""
    return abs(float(np.linalg.norm(vector.astype(np.float64))) - 1) < TOLERANCE


def _damaged(what: str) -> FinetunerServerError:
    return FinetunerServerError(f"{what}. Restore a backup, or index the documents again.")
