"""Indexes, searches and deletes documents on a Flow; backs up, restores, verifies and moves its index."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from typing import TYPE_CHECKING, Any

from ..contract import wire
from ..contract.search_parameters import SearchParameters, asks_more
from ..contract.several import several
from ..documents.carried import carried
from ..documents.iterate import named
from ..exceptions import FinetunerError, InvalidDocument, InvalidInput
from ..progress import bar, waiting
from .data.upload import batches, several_documents, with_images
from .search_queries import with_examples
from .session import connection

if TYPE_CHECKING:
    from docarray import Document, DocumentArray

INDEX_BATCH = 256  # documents per index request
DELETE_BATCH = 10_000  # ids per delete request


def index(documents: Document | Iterable[Document], artifact: str = "live") -> None:
    """Encode documents on the Flow and make them searchable. A document with a known id replaces the old one.

    Args:
        documents: a DocumentArray, one document, or any iterable of them, also a generator, which is read once; not
            changed. Each has text, blob, tensor, or the uri of an image, which may be a local file. A document with
            chunks instead, such as a pair, is ranked by the weighted sum of its chunks' similarities; see
            `Document.weight`.
        artifact: artifact id, alias or backbone that encodes the documents; only searches with the same artifact find
            them. Documents of `live` are encoded again in the background after each promotion.

    Raises:
        InvalidInput: `documents` holds something else.
        InvalidDocument: the first document that cannot be sent, with its position and id; see `carried`. All other
            documents are indexed.
        FinetunerError: the error of the first document that the Flow refused. All other documents are indexed.
    """
    from docarray import DocumentArray

    flow = connection()
    errors: list[FinetunerError] = []
    total = len(documents) if isinstance(documents, Sized) else None
    with bar("Indexing", total) as advance:
        for batch in batches(_sendable(several_documents("documents", documents), errors.append)):
            for start in range(0, len(batch), INDEX_BATCH):
                part = DocumentArray(batch[start : start + INDEX_BATCH])
                answer = flow.post(wire.INDEX, part, {"artifact": artifact})
                errors += [error for document in answer if (error := wire.error_of(document))]
                advance(len(answer))
    if errors:
        raise errors[0]


def _sendable(documents: Iterable[Document], refuse: Callable[[FinetunerError], None]) -> Iterator[Document]:
    for position, document in enumerate(documents):
        try:
            yield with_images(carried(document))
        except InvalidDocument as error:
            refuse(named(error, document, position))


def search(
    query: str | Document | Iterable[str | Document] | None = None,
    limit: int = 20,
    artifact: str = "live",
    *,
    offset: int = 0,
    filter: Mapping[str, Any] | str | None = None,  # noqa: A002  # as DocArray calls it
    score_threshold: float | None = None,
    exact: bool = False,
    return_content: bool = True,
    thumbnails: bool = False,
    positives: str | Document | Iterable[str | Document] = (),
    negatives: str | Document | Iterable[str | Document] = (),
    diversity: float | None = None,
    hide_duplicates: float | None = None,
    group_by: str | None = None,
    group_size: int | None = None,
    facets: Mapping[str, int | Sequence[float]] | None = None,
    order_by: str | None = None,
    cursor: str | None = None,
    hybrid: Mapping[str, Any] | None = None,
    explain: bool | None = None,
    candidates: int | None = None,
    min_probability: float | None = None,
) -> DocumentArray:
    """Find the indexed documents that are nearest to each query.

    Args:
        query: a text, a document (text, image, or weighted chunks of both), or several of these; None with positives.
        limit: matches per query, 1 to 1000.
        artifact: artifact id, alias or backbone that the documents were indexed with.
        offset: number of best matches to skip, 0 to 100,000.
        filter: condition on the tags of matches: {'price': {'$lt': 50}}, or Qdrant's form {'must': [...]}.
        score_threshold: lowest cosine similarity of a match, in [-1, 1].
        exact: compare the query with every vector instead of searching the graph.
        return_content: False returns only id, tags and score of each match.
        thumbnails: return JPEGs of at most 256 pixels a side instead of the full images.
        positives: examples to look like: ids of indexed documents, as strings, or Documents with a text, an image, or
            an embedding with its artifact's tag. The direction is query + mean(positives) - mean(negatives) / 2, of
            unit vectors. Indexed examples are no matches.
        negatives: examples to look unlike; likewise.
        diversity: share of variety against similarity, 0 to 1 (maximal marginal relevance).
        hide_duplicates: hide a match whose similarity with a better match is at least this, 0 to 1.
        group_by: name of a tag; `limit` then counts its values.
        group_size: matches for each value of `group_by`, 1 by default; limit * group_size is at most 1000.
        facets: counts of the documents that pass the filter: {'colour': 10} for the ten most frequent values,
            {'price': [10, 50]} for the ranges below 10, from 10 and from 50.
        order_by: name of a tag that sorts the best 1000 matches, or `candidates`; '-price' from the highest.
        cursor: '*' for the first page, then the `cursor` of the previous answer.
        hybrid: {'fields': ['text', 'sku'], 'weight': 0.3} fuses the ranks of BM25 over these texts and of the
            vectors. Without a weight, it is 0.7 for a query with a code that a document has, else 0.1.
        explain: whether matches carry rank and score of each part of `hybrid`.
        candidates: number of best matches from which hybrid, diversity, duplicates, groups and order choose.
        min_probability: leave out matches that are less likely to be relevant, 0 to 1, by the calibration of the
            artifact; nothing is left where nothing fits. For a query of one text or image, without hybrid.

    Returns:
        The queries with `matches`, best first; `scores['cosine'].value` is the cosine similarity in [-1, 1]. With a
        calibrated artifact, `scores['probability'].value` is the probability that the match is relevant. Their tag
        'finetuner_search' has `cursor` (missing on the last page), `hidden`, `facets`, `complete` (False if more
        matches may be beyond the candidates) and `weight` of hybrid, as far as asked for.

    Raises:
        InvalidInput: `query` holds something else, or an option is not allowed.
        NotFound: an example is not indexed with this artifact.
        FinetunerError: the error of the first refused query.
    """
    queries, ids = with_examples(query, positives, negatives)
    features = {
        "positives": ids["positives"] or None, "negatives": ids["negatives"] or None, "diversity": diversity,
        "hide_duplicates": hide_duplicates, "group_by": group_by, "group_size": group_size, "facets": facets,
        "order_by": order_by, "cursor": cursor, "hybrid": hybrid, "explain": explain, "candidates": candidates,
        "min_probability": min_probability,
    }  # fmt: skip
    if asks_more(features):
        SearchParameters.read(features, limit, offset)
    parameters = {
        "limit": limit, "artifact": artifact, "offset": offset, "filter": filter, "score_threshold": score_threshold,
        "exact": exact, "return_content": return_content, "thumbnails": thumbnails, **features,
    }  # fmt: skip
    return _checked(connection().post(wire.SEARCH, queries, _without_none(parameters)))


def filter_documents(
    filter: Mapping[str, Any] | str | None = None,  # noqa: A002  # as DocArray calls it
    limit: int = 20,
    artifact: str = "live",
    *,
    offset: int = 0,
    return_content: bool = True,
    thumbnails: bool = False,
) -> DocumentArray:
    """Return indexed documents that pass a filter, in a stable order.

    Args:
        filter: condition on the tags, as for `search`; None passes every document.
        limit: highest number of documents, 1 to 1000.
        artifact: artifact id, alias or backbone that the documents were indexed with.
        offset: number of documents to skip, 0 to 100,000.
        return_content: False returns only id and tags of each document.
        thumbnails: as for `search`.

    Raises:
        InvalidInput: the filter or a number is not valid.
    """
    parameters = {
        "filter": filter, "limit": limit, "artifact": artifact, "offset": offset, "return_content": return_content,
        "thumbnails": thumbnails,
    }  # fmt: skip
    return _checked(connection().post(wire.FILTER, None, _without_none(parameters)))


def delete_documents(
    ids: str | Iterable[str] | None = None,
    filter: Mapping[str, Any] | str | None = None,  # noqa: A002  # as DocArray calls it
) -> int:
    """Delete indexed documents by id, by filter or both, with their vectors of every artifact.

    Args:
        ids: one id, or several; unknown ones are ignored.
        filter: condition on the tags, as for `search`.

    Returns:
        The number of deleted documents.

    Raises:
        InvalidInput: there are neither ids nor a filter with a condition, or an id is no string. Nothing is deleted.
    """
    if ids is None and not filter:
        raise InvalidInput("documents to delete must be named. Got neither ids nor filter. Pass one of them.")
    deleted = 0
    all_ids = [] if ids is None else list(several("ids", ids, str, "one id or several, strings"))
    flow = connection()
    for start in range(0, len(all_ids), DELETE_BATCH):
        deleted += flow.call(wire.DELETE, ids=all_ids[start : start + DELETE_BATCH])["deleted"]
    if filter:
        deleted += flow.call(wire.DELETE, filter=filter)["deleted"]
    return deleted


def index_status() -> dict[str, Any]:
    """Return the index's collections, documents, bytes, artifact behind `live`, re-index progress and problems."""
    status: dict[str, Any] = connection().call(wire.STATUS)
    return status


def cancel_reindex() -> dict[str, Any]:
    """Cancel the re-index that a promotion started; `live` keeps searching the old vectors. Return its state."""
    state: dict[str, Any] = connection().call(wire.REINDEX_CANCEL)
    return state


def drop_collection(artifact: str) -> None:
    """Delete the vectors of an artifact that `live` does not search; a rollback to it encodes everything again."""
    connection().call(wire.COLLECTIONS_DROP, artifact=artifact)


def backup_index(name: str) -> dict[str, Any]:
    """Write a consistent copy of the index to `backups/<name>` of the Flow's workspace; return its counts."""
    flow = connection()
    with waiting("Backing up the index"):
        made: dict[str, Any] = flow.call(wire.INDEX_BACKUP, name=name)
    return made


def restore_index(name: str) -> dict[str, Any]:
    """Replace the index with a backup; return its counts."""
    flow = connection()
    with waiting("Restoring the index"):
        restored: dict[str, Any] = flow.call(wire.INDEX_RESTORE, name=name)
    return restored


def verify_index(name: str = "") -> dict[str, Any]:
    """Verify counts and checksums, and that every document has its vector.

    Args:
        name: name of a backup; '' verifies the index itself.

    Returns:
        The counts.

    Raises:
        FinetunerServerError: something is missing or damaged; the message names it.
    """
    flow = connection()
    with waiting("Verifying the index"):
        found: dict[str, Any] = flow.call(wire.INDEX_VERIFY, name=name)
    return found


def move_index(url: str) -> dict[str, Any]:
    """Copy the vectors to the Qdrant server at `url`, compare counts and sampled vectors, then search there."""
    flow = connection()
    with waiting("Moving the index"):
        moved: dict[str, Any] = flow.call(wire.INDEX_MOVE, url=url)
    return moved


def _without_none(parameters: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if value is not None}


def _checked(answer: DocumentArray) -> DocumentArray:
    """Return the documents of an answer; raise the first error among them."""
    for document in answer:
        if (error := wire.error_of(document)) is not None:
            raise error
    return answer
