"""Turns hits into matches: the indexed documents with their scores."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from docarray import Document, DocumentArray
from docarray.array.memory import DocumentArrayInMemory
from docarray.proto.docarray_pb2 import DocumentArrayProto, DocumentProto
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from finetuner.contract.wire import ARTIFACT_TAG, MAX_MESSAGE_BYTES, MAX_REQUEST_BYTES, mark_error
from finetuner.exceptions import InvalidDocument, InvalidInput
from finetuner.executors.indexer.engines.engine import Hit
from finetuner.executors.indexer.retrieval.previews import preview
from finetuner.executors.indexer.retrieval.vectors import take_tower
from finetuner.executors.indexer.storage.documents import Documents
from finetuner.executors.indexer.storage.packing import unpack

SCORE = "cosine"
# The answer also carries the queries. gRPC refuses a larger answer as a whole.
REPLY_BYTES = MAX_MESSAGE_BYTES - MAX_REQUEST_BYTES
# Upper bound of the bytes that a score and the artifact's tag add to a match.
OVERHEAD_BYTES = 256


class Answer(DocumentArrayInMemory):  # type: ignore[misc]  # docarray is not typed
    """Queries with their matches as protobuf messages, which join the queries when the answer is serialised.

    Making a `Document` of each match and serialising it again costs several times the search.

    Attributes:
        found: the matches of each query, by position.
        kinds: tower that encoded each query, by position; '' where it is no single text or image.
    """

    def __init__(self, queries: Iterable[Document]) -> None:
        super().__init__(queries)
        self.found: list[list[DocumentProto]] = [[] for _ in self]
        self.kinds = ["" if query.chunks else tower for query in self for tower in (take_tower(query),)]

    def to_protobuf(self, ndarray_type: str | None = None) -> DocumentArrayProto:
        """Return the queries with their matches."""
        message = super().to_protobuf(ndarray_type)
        for query, found in zip(message.docs, self.found, strict=True):
            query.matches.extend(found)
        return message


class Matches:
    """Makes the matches for one request, within the size of one message.

    Args:
        documents: the stored documents.
        content: whether matches carry content, or only id, tags and scores.
        thumbnails: whether small JPEGs replace the images.
        allowed: maximum bytes of all matches of the request.

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

        A document that was deleted after the search, or cannot be read, is left out. The query's own matches are
        removed. If the message has no room for all matches, the query gets an error and no matches.
        """
        query.pop("matches")
        try:
            packed = self._read([hit.id for hit in hits])
        except InvalidInput as error:
            mark_error(query, error)
            return []
        matches = []
        for hit in hits:
            if (match := self._match(hit.id, packed)) is not None:
                match.tags.fields[ARTIFACT_TAG].string_value = artifact
                match.scores[SCORE].value = hit.score
                match.adjacency = query.adjacency + 1  # as DocArray sets it
                matches.append(match)
        return matches

    def documents(self, ids: Sequence[str]) -> DocumentArray:
        """Return documents as they were indexed. Deleted documents are left out.

        Raises:
            InvalidInput: the message has no room for all of them.
        """
        packed, found = self._read(ids), []
        for document_id in ids:
            try:
                found += [unpack(packed[document_id], document_id)] if document_id in packed else []
            except InvalidDocument:
                self._documents.note_damage(document_id)
        return DocumentArray(found)

    def _match(self, document_id: str, packed: Mapping[str, bytes]) -> DocumentProto | None:
        if document_id not in packed:
            return None
        with suppress(DecodeError):
            match = DocumentProto.FromString(packed[document_id])
            if match.id == document_id:
                return match
        self._documents.note_damage(document_id)
        return None

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
            f"the matches of one request must take {self._allowed} bytes at most. Got more. "
            "Lower `limit`, send fewer queries a request, ask for `thumbnails`, or set `return_content` to false."
        )
