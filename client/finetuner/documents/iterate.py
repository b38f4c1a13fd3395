"""Reads documents one by one, and names the first invalid one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from ..exceptions import InvalidDocument

if TYPE_CHECKING:
    from docarray import Document

Made = TypeVar("Made")


def read_each(documents: Iterable[Document], read: Callable[[Document], Made], first: int = 0) -> Iterator[Made]:
    """Yield the result of `read` for each document, lazily.

    Args:
        documents: to read.
        read: returns a value for a document, or raises InvalidDocument.
        first: position of the first one in its dataset.

    Raises:
        InvalidDocument: the error of `read`, prefixed with the document's position and id.
    """
    for position, document in enumerate(documents, first):
        try:
            made = read(document)
        except InvalidDocument as error:
            raise named(error, document, position) from error
        yield made


def with_parts(document: Any) -> Iterator[Any]:
    """Yield a document, or its protobuf, and its chunks and matches on every level."""
    waiting = [document]
    while waiting:
        part = waiting.pop()
        yield part
        waiting += [*part.chunks, *part.matches]


def named(error: InvalidDocument, document: Document, position: int) -> InvalidDocument:
    """Return the error with the document's position, from 0, and id; half a surrogate in an id is escaped."""
    identity = str(document.id).encode(errors="backslashreplace").decode()
    return InvalidDocument(f"document {position} ({identity:.200}): {error}")
