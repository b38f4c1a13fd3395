"""Index documents on a Flow, and search them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import wire
from .progress import bar
from .session import connection
from .upload import batches

if TYPE_CHECKING:
    from docarray import Document, DocumentArray


def index(documents: DocumentArray, artifact: str = "live") -> None:
    """Encode documents on the Flow and make them searchable; one of a known id is replaced.

    Args:
        documents: with text, blob, tensor, or uri of a picture, local ones too; not changed.
        artifact: id, alias or backbone that encodes them; only its searches find them.

    Raises:
        FinetunerError: of the first document that was refused; all good ones are indexed.
    """
    from docarray import DocumentArray

    flow = connection()
    first: Exception | None = None
    with bar("Indexing", len(documents)) as advance:
        for batch in batches(_with_content(documents)):
            for start in range(0, len(batch), 256):
                answer = flow.post(wire.INDEX, DocumentArray(batch[start : start + 256]), {"artifact": artifact})
                first = first or next((error for document in answer if (error := wire.error_of(document))), None)
                advance(len(answer))
    if first is not None:
        raise first


def search(query: str | Document | DocumentArray, limit: int = 20, artifact: str = "live") -> DocumentArray:
    """Find the indexed documents that are nearest to each query.

    Args:
        query: a text, a document (text or picture), or several.
        limit: matches per query, 1 to 1000.
        artifact: id, alias or backbone; must be one that documents were indexed with.

    Returns:
        The queries with `matches`, best first, `scores['cosine'].value` = cosine similarity in [-1, 1].

    Raises:
        FinetunerError: of the first query that was refused.
    """
    from docarray import Document, DocumentArray

    queries = DocumentArray([Document(text=query)] if isinstance(query, str) else query)
    answer = connection().post(
        wire.SEARCH, DocumentArray(_with_content(queries)), {"limit": limit, "artifact": artifact}
    )
    for document in answer:
        if (error := wire.error_of(document)) is not None:
            raise error
    return answer


def _with_content(documents: DocumentArray) -> list[Document]:
    from docarray import Document

    from .uris import read_local

    ready = []
    for document in documents:
        local = document.uri and not (document.text or document.blob or document.tensor is not None)
        if local and not document.uri.startswith("data:"):
            document = Document(document, copy=True)
            document.blob = read_local(document.uri)
        ready.append(document)
    return ready
