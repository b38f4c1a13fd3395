"""Whether every document has its vector, and every vector its document."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from executors.indexer.index import Index
from finetuner.exceptions import FinetunerServerError

# Documents that are looked at while writes wait: about 2 ms with 512 dimensions.
PAGE = 100
# Rounding to float32 moves a length by 1e-7; one usual number of 512 that is lost moves it by 1e-3.
TOLERANCE = 1e-5


def verify_index(index: Index) -> dict[str, Any]:
    """Compare documents and vectors, one by one, while others search and write.

    Returns:
        {'documents', 'vectors': {artifact: how many}}.

    Raises:
        FinetunerServerError: with the first thing that is wrong.
    """
    if (found := index.documents.check()) != "ok":
        raise _damaged(f"documents.sqlite must be whole. SQLite found: {found}")
    for artifact in index.collections.all():
        after: str | None = ""
        while after is not None:
            with index.writing:
                lost, after = lost_vectors(index, artifact, after)
            if lost:
                raise _damaged(f"{artifact!r} must have a vector of length 1 of {lost[0]!r}. It is lost or damaged")
        while True:
            with index.writing:
                alone, after = lone_vectors(index, artifact, after)
                known = index.documents.versions(alone)  # of a write that was killed, and told nobody
            if unknown := [key for key in alone if key not in known]:
                raise _damaged(f"every vector of {artifact!r} must have its document. {unknown[0]!r} has none")
            if after is None:
                break
    return {"documents": len(index.documents), "vectors": index.counts()}


def lost_vectors(index: Index, artifact: str, after: str) -> tuple[list[str], str | None]:
    """Look at the next documents that the artifact should have a vector of; the caller lets nobody write.

    Returns:
        Ids of those whose vector is not there or damaged, and what to pass as `after` for more, None at the end.
    """
    ids = index.documents.encoded_ids(artifact, after, PAGE)
    vectors = index.collection(artifact).get(ids) if ids else {}
    lost = [key for key in ids if key not in vectors or not _is_unit(vectors[key])]
    return lost, ids[-1] if ids else None


def lone_vectors(index: Index, artifact: str, after: str | None) -> tuple[list[str], str | None]:
    """Look at the next vectors; the caller lets nobody write.

    Returns:
        Ids of those that no document is known to have, and what to pass as `after` for more, None at the end.
    """
    points, after = index.collection(artifact).scroll(after, PAGE, vectors=False)
    return index.documents.missing(artifact, [point.id for point in points]), after


def _is_unit(vector: NDArray[np.float32]) -> bool:
    """Return whether a vector has length 1, as all that were stored; only a change of signs leaves it so."""
    return abs(float(np.linalg.norm(vector.astype(np.float64))) - 1) < TOLERANCE


def _damaged(what: str) -> FinetunerServerError:
    return FinetunerServerError(f"{what}. Restore a backup, or index the documents again.")
