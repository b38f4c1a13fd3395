"""Documents of several parts, such as an image with its caption: chunks, which share one vector."""

from __future__ import annotations

from collections.abc import Sequence

from docarray import Document


def has_own_content(document: Document) -> bool:
    """Return whether a document has something of its own to encode."""
    return bool(document.uri) or document.content_type is not None


def parts_of(document: Document) -> Sequence[Document]:
    """Return what an encoder is asked about: a document's chunks where it has no content of its own, or itself."""
    return document.chunks if document.chunks and not has_own_content(document) else [document]
