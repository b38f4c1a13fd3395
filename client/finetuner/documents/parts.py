"""Documents of several parts, such as an image with its caption, whose chunks share one embedding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from docarray import Document


def has_own_content(document: Document) -> bool:
    """Return whether a document has content of its own to encode, besides its chunks."""
    return bool(document.uri) or document.content_type is not None


def parts_of(document: Document) -> Sequence[Document]:
    """Return the documents to encode: the chunks of a document without content of its own, else the document."""
    return document.chunks if document.chunks and not has_own_content(document) else [document]
