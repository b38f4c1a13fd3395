"""The Indexer: `/index`, `/search`, `/delete` and `/status`."""

from __future__ import annotations

from typing import Any

from docarray import DocumentArray
from prometheus_client import Counter, Gauge

from executors.indexer.index import Index
from executors.indexer.matches import REPLY_BYTES, Matches
from executors.indexer.vectors import artifact_of
from executors.room import Room, control
from finetuner.exceptions import FinetunerError, InvalidInput
from finetuner.parameters import Parameters
from finetuner.wire import DELETE, ERROR_TAG, INDEX, SEARCH, STATUS, mark_error

DEFAULT_LIMIT = 20
MAX_LIMIT = 1000
# What the sender has in its hands anyway, and the bulk of a document: not sent back.
PAYLOAD = ("blob", "tensor", "embedding")


class Indexer(Room):
    """Documents with embeddings in, search out.

    Args:
        workspace_url: folder (or file:// URL) that all rooms of a Flow share; the index is in its `index/`.

    Raises:
        InvalidInput: another process has this workspace's index open.
    """

    def __init__(self, workspace_url: str = "workspace", **kwargs: Any) -> None:
        super().__init__(workspace_url, **kwargs)
        self._index = Index(self.place.index)
        self._indexed = Counter(
            "finetuner_indexed_documents", "Documents indexed or indexed again", registry=self.registry
        )
        self._searches = Counter("finetuner_searches", "Queries answered with matches", registry=self.registry)
        self._vectors = Gauge(
            "finetuner_collection_vectors", "Vectors in a collection", ["artifact"], registry=self.registry
        )
        self._show_counts()

    # `artifact` is the encoders' parameter: the same request passes through them first.
    @control(INDEX, "artifact")
    def index(self, _parameters: Parameters, docs: DocumentArray) -> DocumentArray:
        """Store documents with embedding and artifact tag; answer them without payload, once on disk."""
        arrived = [document for document in docs if ERROR_TAG not in document.tags]
        refused = 0
        for document, error in zip(arrived, self._index.upsert(arrived), strict=True):
            document.pop(*PAYLOAD)
            if error is not None:
                mark_error(document, error)
                refused += 1
        self.count_documents(INDEX, len(arrived) - refused, refused + len(docs) - len(arrived))
        self._indexed.inc(len(arrived) - refused)
        self._show_counts()
        return docs

    @control(SEARCH, "artifact", "limit", "return_content")
    def search(self, parameters: Parameters, docs: DocumentArray) -> DocumentArray:
        """Fill each query's matches, best first, from the documents of the query's own artifact."""
        limit = parameters.whole("limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
        content = parameters.flag("return_content", True)
        matches = Matches(self._index.documents, content, REPLY_BYTES)
        arrived = [document for document in docs if ERROR_TAG not in document.tags]
        for query, answer in zip(arrived, self._index.search(arrived, limit), strict=True):
            if isinstance(answer, FinetunerError):
                mark_error(query, answer)
            else:
                matches.fill(query, artifact_of(query), answer)
        answered = sum(ERROR_TAG not in query.tags for query in arrived)
        self.count_documents(SEARCH, answered, len(docs) - answered)
        self._searches.inc(answered)
        return docs

    @control(DELETE, "ids")
    def delete(self, parameters: Parameters, docs: DocumentArray) -> dict[str, int]:
        """Delete by the parameter `ids` and the ids of documents sent; answer {"deleted": how many}."""
        ids = parameters.get("ids")
        if ids is None and not docs:
            raise InvalidInput(
                "documents to delete must be named. Got neither `ids` nor documents. Pass `ids`, a list of strings."
            )
        if ids is not None and not (isinstance(ids, list) and all(isinstance(entry, str) for entry in ids)):
            raise InvalidInput(f"parameter 'ids' must be a list of strings. Got {ids!r}.")
        deleted = self._index.delete([*(ids or []), *(document.id for document in docs)])
        self._show_counts()
        return {"deleted": deleted}

    @control(STATUS)
    def status(self, _parameters: Parameters, _docs: DocumentArray) -> dict[str, Any]:
        """Answer {"collections": [{artifact, dim, count}], "documents": count, "bytes": on disk}."""
        return self._index.status()

    def close(self) -> None:
        """Close the index, so that another process may open it."""
        self._index.close()
        super().close()

    def _show_counts(self) -> None:
        for artifact, count in self._index.counts().items():
            self._vectors.labels(artifact).set(count)
