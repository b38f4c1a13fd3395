"""Hits become matches: the documents as they were indexed, with their score."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from docarray import Document, DocumentArray
from docarray.array.memory import DocumentArrayInMemory
from docarray.proto.docarray_pb2 import DocumentArrayProto, DocumentProto

from executors.indexer.engines.engine import Hit
from executors.indexer.retrieval.previews import preview
from executors.indexer.storage.documents import Documents
from executors.indexer.storage.packing import unpack
from finetuner.contract.wire import ARTIFACT_TAG, MAX_MESSAGE_BYTES, MAX_REQUEST_BYTES, mark_error
from finetuner.exceptions import InvalidInput

SCORE = "cosine"
# The queries travel back beside their matches. Past this, gRPC would refuse the whole answer.
REPLY_BYTES = MAX_MESSAGE_BYTES - MAX_REQUEST_BYTES
# What a score and the artifact's tag add to a match, and then some.
OVERHEAD_BYTES = 256


class Answer(DocumentArrayInMemory):  # type: ignore[misc]  # docarray is not typed
    """Queries whose matches are messages already, and join them on the way out.

    A `Document` made of each match, only to become the same message again, costs several times the search.

    Attributes:
        found: the matches of each query, by its place.
    """

    def __init__(self, queries: Iterable[Document]) -> None:
        super().__init__(queries)
        self.found: list[list[DocumentProto]] = [[] for _ in self]

    def to_protobuf(self, ndarray_type: str | None = None) -> DocumentArrayProto:
        """Return the queries with their matches."""
        message = super().to_protobuf(ndarray_type)
        for query, found in zip(message.docs, self.found, strict=True):
            query.matches.extend(found)
        return message


class Matches:
    """Makes the matches of one request's queries, within what one message can carry.

    Args:
        documents: where the content is.
        content: whether matches carry it, or id, tags and scores alone.
        thumbnails: whether small JPEGs take the place of images.
        allowed: bytes that all matches of the request may weigh together.

    Raises:
        InvalidInput: thumbnails without content.
    """

    def __init__(self, documents: Documents, content: bool, thumbnails: bool, allowed: int) -> None:
        if thumbnails and not content:
            raise InvalidInput(
                "return_content must be true for thumbnails, which are content. Got false. Leave one of them out."
            )
        self._documents = documents
        self._content = content
        self._thumbnails = thumbnails
        self._allowed = allowed
        self._left = allowed

    def of(self, query: Document, artifact: str, hits: Sequence[Hit]) -> list[DocumentProto]:
        """Return the query's matches, best first: `scores['cosine'].value` is the cosine similarity.

        A document that was deleted since it was found is left out. Matches that the query came with go. Where the
        message has no room for all of them, the query carries the error and there are none.
        """
        query.pop("matches")
        try:
            packed = self._read([hit.id for hit in hits])
        except InvalidInput as error:
            mark_error(query, error)
            return []
        matches = []
        for hit in hits:
            if hit.id in packed:
                match = DocumentProto.FromString(packed[hit.id])
                match.tags.fields[ARTIFACT_TAG].string_value = artifact
                match.scores[SCORE].value = hit.score
                match.adjacency = query.adjacency + 1  # as DocArray has it
                matches.append(match)
        return matches

    def documents(self, ids: Sequence[str]) -> DocumentArray:
        """Return documents as they were indexed; those that are gone are left out.

        Raises:
            InvalidInput: the message has no room for all of them.
        """
        packed = self._read(ids)
        return DocumentArray(unpack(packed[document_id]) for document_id in ids if document_id in packed)

    def _read(self, ids: Sequence[str]) -> dict[str, bytes]:
        if self._thumbnails:
            packed = self._documents.get_small(ids, preview, most_bytes=self._left)
        else:
            packed = self._documents.get(ids, self._content, most_bytes=self._left)
        left = self._left - sum(len(each) + OVERHEAD_BYTES for each in packed.values())
        if left < 0:
            raise self._too_large()
        self._left = left
        return packed

    def _too_large(self) -> InvalidInput:
        return InvalidInput(
            f"the matches of one request must weigh {self._allowed} bytes at most. Got more. "
            "Lower `limit`, send fewer queries a request, ask for `thumbnails`, or set `return_content` to false."
        )
