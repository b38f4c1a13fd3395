"""Index documents on a Flow, search them, and keep the index well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..contract import wire
from ..exceptions import InvalidInput
from ..progress import bar
from .session import connection
from .upload import batches, with_images

if TYPE_CHECKING:
    from docarray import Document, DocumentArray

DELETED_AT_ONCE = 10_000


def index(documents: DocumentArray, artifact: str = "live") -> None:
    """Encode documents on the Flow and make them searchable; one of a known id is replaced.

    Args:
        documents: with text, blob, tensor, or uri of an image, local ones too; not changed. One with chunks instead,
            such as a pair, is found by the weighted sum of the similarities with them; see `Document.weight`.
        artifact: id, alias or backbone that encodes them; only its searches find them. Those of `live` are encoded
            again, in the background, when something else is promoted.

    Raises:
        FinetunerError: of the first document that was refused; all good ones are indexed.
    """
    from docarray import DocumentArray

    flow = connection()
    first: Exception | None = None
    with bar("Indexing", len(documents)) as advance:
        for batch in batches(with_images(document) for document in documents):
            for start in range(0, len(batch), 256):
                answer = flow.post(wire.INDEX, DocumentArray(batch[start : start + 256]), {"artifact": artifact})
                first = first or next((error for document in answer if (error := wire.error_of(document))), None)
                advance(len(answer))
    if first is not None:
        raise first


def search(
    query: str | Document | DocumentArray,
    limit: int = 20,
    artifact: str = "live",
    *,
    offset: int = 0,
    filter: Mapping[str, Any] | str | None = None,  # noqa: A002  # as DocArray calls it
    score_threshold: float | None = None,
    exact: bool = False,
    return_content: bool = True,
    thumbnails: bool = False,
) -> DocumentArray:
    """Find the indexed documents that are nearest to each query.

    Args:
        query: a text, a document (text, image, or chunks of both with weights), or several.
        limit: matches per query, 1 to 1000.
        artifact: id, alias or backbone; must be one that documents were indexed with.
        offset: best matches that are passed over, 0 to 100,000.
        filter: what matches must pass, over their tags: {'price': {'$lt': 50}}, or Qdrant's {'must': [...]}.
        score_threshold: lowest cosine similarity of a match, in [-1, 1].
        exact: compare with every vector, also where there is a graph.
        return_content: whether matches carry more than id, tags and score.
        thumbnails: whether they carry JPEGs of at most 256 pixels a side instead of their images.

    Returns:
        The queries with `matches`, best first, `scores['cosine'].value` = cosine similarity in [-1, 1].

    Raises:
        FinetunerError: of the first query that was refused.
    """
    from docarray import Document, DocumentArray

    queries = DocumentArray([Document(text=query)] if isinstance(query, str) else query)
    parameters = {
        "limit": limit, "artifact": artifact, "offset": offset, "filter": filter, "score_threshold": score_threshold,
        "exact": exact, "return_content": return_content, "thumbnails": thumbnails,
    }  # fmt: skip
    return _good(connection().post(wire.SEARCH, DocumentArray(map(with_images, queries)), _given(parameters)))


def filter_documents(
    filter: Mapping[str, Any] | str | None = None,  # noqa: A002  # as DocArray calls it
    limit: int = 20,
    artifact: str = "live",
    *,
    offset: int = 0,
    return_content: bool = True,
    thumbnails: bool = False,
) -> DocumentArray:
    """Return indexed documents that pass a filter, in an order that stays the same.

    Args:
        filter: as of `search`; None passes all.
        limit: most documents, 1 to 1000.
        artifact: id, alias or backbone that they were indexed with.
        offset: documents that are passed over, 0 to 100,000.
        return_content: whether they carry more than id and tags.
        thumbnails: as of `search`.
    """
    parameters = {
        "filter": filter, "limit": limit, "artifact": artifact, "offset": offset, "return_content": return_content,
        "thumbnails": thumbnails,
    }  # fmt: skip
    return _good(connection().post(wire.FILTER, None, _given(parameters)))


def delete_documents(
    ids: Sequence[str] | None = None,
    filter: Mapping[str, Any] | str | None = None,  # noqa: A002  # as DocArray calls it
) -> int:
    """Delete indexed documents by id or filter, with their vectors of every artifact; return how many there were.

    Raises:
        InvalidInput: neither ids nor a filter with a condition.
    """
    if ids is None and not filter:
        raise InvalidInput("documents to delete must be named. Got neither ids nor filter. Pass one of them.")
    flow = connection()
    deleted = 0
    named = list(ids or [])
    for start in range(0, len(named), DELETED_AT_ONCE):
        deleted += flow.call(wire.DELETE, ids=named[start : start + DELETED_AT_ONCE])["deleted"]
    if filter:
        deleted += flow.call(wire.DELETE, filter=filter)["deleted"]
    return deleted


def index_status() -> dict[str, Any]:
    """Return the index's collections, documents, bytes, what `live` searches, and how far a re-index is."""
    status: dict[str, Any] = connection().call(wire.STATUS)
    return status


def cancel_reindex() -> dict[str, Any]:
    """End the re-index that a promotion started; `live` goes on searching what it searches. Return its state."""
    state: dict[str, Any] = connection().call(wire.REINDEX_CANCEL)
    return state


def drop_collection(artifact: str) -> None:
    """Forget the vectors of an artifact that `live` does not search; a rollback to it encodes everything again."""
    connection().call(wire.COLLECTIONS_DROP, artifact=artifact)


def backup_index(name: str) -> dict[str, Any]:
    """Write a consistent copy of the index to `backups/<name>` of the Flow's workspace; return what is in it."""
    made: dict[str, Any] = connection().call(wire.INDEX_BACKUP, name=name)
    return made


def restore_index(name: str) -> dict[str, Any]:
    """Put a backup in the place of the index; return what is in it."""
    restored: dict[str, Any] = connection().call(wire.INDEX_RESTORE, name=name)
    return restored


def verify_index(name: str = "") -> dict[str, Any]:
    """Check the index, or a backup of it: counts, checksums, and that every document has its vector.

    Raises:
        FinetunerServerError: something is missing or damaged; the message says what.
    """
    found: dict[str, Any] = connection().call(wire.INDEX_VERIFY, name=name)
    return found


def move_index(url: str) -> dict[str, Any]:
    """Copy the vectors to a Qdrant server, compare counts and sampled vectors, and search there from then on."""
    moved: dict[str, Any] = connection().call(wire.INDEX_MOVE, url=url)
    return moved


def _given(parameters: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if value is not None}


def _good(answer: DocumentArray) -> DocumentArray:
    for document in answer:
        if (error := wire.error_of(document)) is not None:
            raise error
    return answer
