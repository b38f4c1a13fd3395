"""Whether every document has its vector, and every vector its document."""

from __future__ import annotations

from typing import Any

import numpy as np

from executors.indexer.index import Index
from finetuner.exceptions import FinetunerServerError

PAGE = 1000
NORM_TOLERANCE = 1e-3


def verify_index(index: Index) -> dict[str, Any]:
    """Compare documents and vectors, one by one, while others search and write.

    Returns:
        {'documents', 'vectors': {artifact: how many}}.

    Raises:
        FinetunerServerError: with the first thing that is wrong.
    """
    if (found := index.documents.check()) != "ok":
        raise _damaged(f"documents.sqlite must be whole. SQLite found: {found}")
    return {
        "documents": len(index.documents),
        "vectors": {artifact: _verify_collection(index, artifact) for artifact in index.collections.all()},
    }


def _verify_collection(index: Index, artifact: str) -> int:
    after = None
    while True:
        with index.writing:  # vectors and documents are written one after the other
            points, after = index.collection(artifact).scroll(after, PAGE)
            alone = index.documents.missing(artifact, [point.id for point in points])
        if alone:
            raise _damaged(f"every vector of {artifact!r} must have its document. {alone[0]!r} has none")
        for point in points:
            norm = float(np.linalg.norm(point.vector))
            if not abs(norm - 1) < NORM_TOLERANCE:
                raise _damaged(f"vectors of {artifact!r} must have length 1. That of {point.id!r} has {norm}")
        if after is None:
            break
    with index.writing:
        vectors, documents = len(index.collection(artifact)), index.documents.encoded(artifact)
    if vectors != documents:
        raise _damaged(f"{artifact!r} must have a vector of {documents} documents. Got {vectors} vectors")
    return vectors


def _damaged(what: str) -> FinetunerServerError:
    return FinetunerServerError(f"{what}. Restore a backup, or index the documents again.")
