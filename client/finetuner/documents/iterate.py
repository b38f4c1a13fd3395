"""Documents one by one; the first that is wrong is named."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

from ..exceptions import InvalidDocument

if TYPE_CHECKING:
    from docarray import Document

Made = TypeVar("Made")


def read_each(documents: Iterable[Document], read: Callable[[Document], Made], first: int = 0) -> Iterator[Made]:
    """Yield what `read` makes of each document, no sooner than it is asked for.

    Args:
        documents: to read.
        read: makes something of a document, or raises InvalidDocument.
        first: position of the first one in its dataset.

    Raises:
        InvalidDocument: that of `read`, with the document's position and id before it.
    """
    for position, document in enumerate(documents, first):
        try:
            made = read(document)
        except InvalidDocument as error:
            raise InvalidDocument(f"document {position} ({document.id}): {error}") from error
        yield made
