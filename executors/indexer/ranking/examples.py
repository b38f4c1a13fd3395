"""Search by examples: the direction of a query, of documents to look like, and of documents to look unlike.

direction = q + mean(positives) - NEGATIVE_WEIGHT * mean(negatives), each a unit vector, q left out without a query.

Without q this is Qdrant's average-vector recommendation, 2 * mean(positives) - mean(negatives), whose length does not
matter; with q it is Rocchio's relevance feedback (1971) with alpha = beta = 1 and gamma = 0.5.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from docarray import Document
from numpy.typing import NDArray

from finetuner.contract.wire import ARTIFACT_TAG, EXAMPLE_TAG, NEGATIVE, POSITIVE
from finetuner.documents.parts import has_own_content
from finetuner.exceptions import InvalidDocument, InvalidInput, NotFound
from finetuner.executors.indexer.engines.engine import Collection
from finetuner.executors.indexer.retrieval.vectors import CANCELED, join_parts, vector_of

NEGATIVE_WEIGHT = 0.5

Vector = NDArray[np.float32]


def has_examples(query: Document) -> bool:
    """Return whether a query has chunks that are examples. Every plain query has an embedding here already."""
    return query.embedding is None and any(EXAMPLE_TAG in chunk.tags for chunk in query.chunks)


def direction(query: Vector | None, positives: Sequence[Vector], negatives: Sequence[Vector]) -> Vector:
    """Return the unit vector of the formula above.

    Args:
        query: (dim,) float32, L2-normalised; None without a query of its own.
        positives: vectors like it; not empty without a query.
        negatives: likewise; may be empty.

    Raises:
        InvalidDocument: the vectors cancel each other out.
    """
    total = np.zeros(0) if query is None else query.astype(np.float64)
    for weight, vectors in ((1.0, positives), (-NEGATIVE_WEIGHT, negatives)):
        if len(vectors):
            mean = weight * np.mean(np.stack(vectors).astype(np.float64), axis=0)
            total = mean if not total.size else total + mean
    length = np.linalg.norm(total)
    if not length > CANCELED:
        raise InvalidDocument("examples must not cancel each other out. They do. Leave a negative one out.")
    return np.asarray(total / length, dtype=np.float32)


def aimed(query: Document, positives: Sequence[Vector], negatives: Sequence[Vector]) -> None:
    """Set a query's embedding to its direction: its own content or parts, its example chunks, and stored vectors.

    Args:
        query: changed in place; chunks with EXAMPLE_TAG are examples, other chunks are weighted parts of the query.
        positives: vectors of indexed documents, each (dim,) float32.
        negatives: likewise.

    Raises:
        FinetunerError: the first error of a chunk.
        InvalidInput: neither a query nor a positive.
        InvalidDocument: examples of another artifact or size, or a wrong tag.
    """
    sides: dict[str, list[Document]] = {POSITIVE: [], NEGATIVE: []}
    parts = []
    for chunk in query.chunks if query.embedding is None and not has_own_content(query) else ():
        side = chunk.tags.get(EXAMPLE_TAG)
        if side is not None and side not in sides:
            raise InvalidDocument(f"the tag {EXAMPLE_TAG!r} must be {POSITIVE!r} or {NEGATIVE!r}. Got {side!r:.80}.")
        (parts if side is None else sides[side]).append(chunk)
    own = _joined(query, parts)
    artifact = query.tags.get(ARTIFACT_TAG)
    liked = [*(_of_chunk(query, chunk) for chunk in sides[POSITIVE]), *positives]
    disliked = [*(_of_chunk(query, chunk) for chunk in sides[NEGATIVE]), *negatives]
    if own is None and not liked:
        raise InvalidInput(
            "a search must have a query or a positive example. Got neither. Add a text, an image or an id to positives."
        )
    vectors = [*([] if own is None else [own]), *liked, *disliked]
    if len({vector.size for vector in vectors}) > 1:
        raise InvalidDocument(
            f"examples must have vectors of one size, as artifact {artifact!r} makes them. "
            f"Got {sorted({vector.size for vector in vectors})}. Encode them with that artifact."
        )
    query.embedding = direction(own, liked, disliked)


def _joined(query: Document, parts: list[Document]) -> Vector | None:
    """Return the vector of the query itself, or None if it has no content."""
    if query.embedding is None and not parts and not has_own_content(query):
        return None
    if parts:
        whole = Document(chunks=parts)
        join_parts(whole)
        query.embedding = whole.embedding
        _same_artifact(query, whole)
    return vector_of(query)


def _of_chunk(query: Document, chunk: Document) -> Vector:
    whole = Document(chunks=[Document(chunk, copy=True, weight=None)])
    join_parts(whole)
    _same_artifact(query, whole)
    return vector_of(whole)


def _same_artifact(query: Document, other: Document) -> None:
    made_by = other.tags[ARTIFACT_TAG]
    if query.tags.setdefault(ARTIFACT_TAG, made_by) != made_by:
        raise InvalidDocument(
            f"examples must be of one artifact. Got {query.tags[ARTIFACT_TAG]!r} and {made_by!r}. Send them again."
        )


def stored(collection: Collection, artifact: str, name: str, ids: Sequence[str]) -> list[Vector]:
    """Return the vectors of indexed documents.

    Args:
        collection: of the artifact.
        artifact: for the message.
        name: 'positives' or 'negatives'.
        ids: of documents.

    Raises:
        NotFound: an id without a vector in this collection.
    """
    found = collection.get(ids) if ids else {}
    for document_id in ids:
        if document_id not in found:
            raise NotFound(
                f"{name} must be ids of documents that are indexed with artifact {artifact!r}. "
                f"Got {document_id!r:.80}, which is not. Index it with that artifact, or leave it out."
            )
    return [found[document_id] for document_id in ids]
