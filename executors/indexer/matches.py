"""Hits become matches: the documents as they were indexed, with their score."""

from __future__ import annotations

from collections.abc import Sequence

from docarray import Document, DocumentArray

from executors.indexer.documents import Documents
from executors.indexer.engines.engine import Hit
from executors.indexer.packing import unpack
from finetuner.exceptions import InvalidInput
from finetuner.wire import ARTIFACT_TAG, MAX_MESSAGE_BYTES, MAX_REQUEST_BYTES, mark_error

SCORE = "cosine"
# The queries travel back beside their matches. Past this, gRPC would refuse the whole answer.
REPLY_BYTES = MAX_MESSAGE_BYTES - MAX_REQUEST_BYTES
# What a score and the artifact's tag add to a match, and then some.
OVERHEAD_BYTES = 256


class Matches:
    """Fills the matches of one request's queries, within what one message can carry.

    Args:
        documents: where the content is.
        content: whether matches carry it, or id, tags and scores alone.
        allowed: bytes that all matches of the request may weigh together.
    """

    def __init__(self, documents: Documents, content: bool, allowed: int) -> None:
        self._documents = documents
        self._content = content
        self._allowed = allowed
        self._left = allowed

    def fill(self, query: Document, artifact: str, hits: Sequence[Hit]) -> None:
        """Set the query's `matches`, best first: `scores['cosine'].value` is the cosine similarity.

        A document that was deleted since it was found is left out. Where the message has no room for all of
        them, the query carries the error and no matches.
        """
        matches = DocumentArray()
        left = self._left
        for hit in hits:
            packed = self._documents.get(hit.id, self._content)
            if packed is None:
                continue
            left -= len(packed) + OVERHEAD_BYTES
            if left < 0:
                query.matches = DocumentArray()
                mark_error(query, self._too_large())
                return
            match = unpack(packed)
            match.tags[ARTIFACT_TAG] = artifact
            match.scores[SCORE].value = hit.score
            matches.append(match)
        self._left = left
        query.matches = matches

    def documents(self, ids: Sequence[str]) -> DocumentArray:
        """Return documents as they were indexed; those that are gone are left out.

        Raises:
            InvalidInput: the message has no room for all of them.
        """
        found = DocumentArray()
        for document_id in ids:
            packed = self._documents.get(document_id, self._content)
            if packed is not None:
                self._left -= len(packed) + OVERHEAD_BYTES
                if self._left < 0:
                    raise self._too_large()
                found.append(unpack(packed))
        return found

    def _too_large(self) -> InvalidInput:
        return InvalidInput(
            f"the matches of one request must weigh {self._allowed} bytes at most. Got more. "
            "Lower `limit`, send fewer queries a request, or set `return_content` to false."
        )
