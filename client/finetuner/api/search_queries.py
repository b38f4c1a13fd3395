"""Queries with examples: documents to look like, and documents to look unlike."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ..contract import wire
from ..contract.search_parameters import MAX_EXAMPLES
from ..contract.several import several
from ..documents.carried import carried
from ..documents.iterate import read_each
from ..documents.parts import has_own_content
from ..exceptions import InvalidInput
from .data.upload import with_images

if TYPE_CHECKING:
    from docarray import Document, DocumentArray


def queries_of(query: str | Document | Iterable[str | Document]) -> DocumentArray:
    """Return queries as documents that the wire can carry.

    Raises:
        InvalidInput: something else than texts and documents.
    """
    from docarray import Document, DocumentArray

    given = several("query", query, (str, Document), "a text, a Document, or several of them")
    asked = (Document(text=each) if isinstance(each, str) else each for each in given)
    return DocumentArray(read_each(asked, lambda document: with_images(carried(document))))


def with_examples(
    query: str | Document | Iterable[str | Document] | None,
    positives: str | Document | Iterable[str | Document],
    negatives: str | Document | Iterable[str | Document],
) -> tuple[DocumentArray, dict[str, list[str]]]:
    """Return the queries with their examples' contents as chunks, and the examples' ids by parameter.

    Args:
        query: None for a search by examples alone.
        positives: ids of indexed documents, as strings, and documents with content or embedding.
        negatives: likewise.

    Raises:
        InvalidInput: neither a query nor a positive example, or something else than ids and documents.
    """
    from docarray import Document, DocumentArray

    ids: dict[str, list[str]] = {}
    chunks: list[Document] = []
    for name, side, given in (("positives", wire.POSITIVE, positives), ("negatives", wire.NEGATIVE, negatives)):
        entries = list(several(name, given, (str, Document), "ids of indexed documents, Documents, or both"))
        if len(entries) > MAX_EXAMPLES:
            raise InvalidInput(f"{name} must have {MAX_EXAMPLES} entries at most. Got {len(entries)}. Leave some out.")
        ids[name] = [entry for entry in entries if isinstance(entry, str)]
        contents: Sequence[Document] = [entry for entry in entries if not isinstance(entry, str)]
        for document in read_each(contents, lambda document: with_images(carried(document))):
            chunk = Document(document, copy=True)
            chunk.tags = {**chunk.tags, wire.EXAMPLE_TAG: side}
            chunks.append(chunk)
    if query is None:
        if not ids["positives"] and not any(chunk.tags[wire.EXAMPLE_TAG] == wire.POSITIVE for chunk in chunks):
            raise InvalidInput("a search must have a query or positives. Got neither. Pass one of them.")
        return DocumentArray([Document(chunks=chunks)]), ids
    asked = queries_of(query)
    if not chunks:
        return asked, ids
    joined = DocumentArray()
    for document in asked:
        own = has_own_content(document) or document.embedding is not None
        parts = [document] if own else list(document.chunks)
        joined.append(Document(id=document.id, chunks=[Document(part, copy=True) for part in (*parts, *chunks)]))
    return joined, ids
