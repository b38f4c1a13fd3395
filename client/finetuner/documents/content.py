"""What a dataset may hold: any documents of DocArray v1 with content, and pairs only whole."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..contract.wire import LABEL_TAG, SCORE_TAG
from ..exceptions import InvalidDocument
from .iterate import read_each
from .pairs import carries_image, sides

if TYPE_CHECKING:
    from docarray import Document

# A document's own and its relatives' ids, and what follows from where it stands. Ids are often random.
NOT_CONTENT = ("id", "parent_id", "granularity", "adjacency")
PAIRS, SCORED, LABELLED, DOCUMENTS = "pairs", "scored pairs", "labelled", "documents"


def meant_as_pair(document: Document) -> bool:
    """Return whether a document is a text-image pair, whole or not: chunks, no score and nothing of its own."""
    own = document.text or document.blob or document.uri or document.tensor is not None
    multimodal = document.non_empty_fields and "_metadata" in document.non_empty_fields
    return 0 < len(document.chunks) <= 2 and SCORE_TAG not in document.tags and not own and not multimodal


def has_content(document: Document) -> bool:
    """Return whether a document or one of its chunks holds text, blob, tensor, uri or embedding."""
    return bool(
        document.text
        or document.blob
        or document.uri
        or document.tensor is not None
        or document.embedding is not None
        or any(has_content(chunk) for chunk in document.chunks)
    )


def check_document(document: Document) -> None:
    """Refuse what no dataset holds; images are not decoded here.

    Raises:
        InvalidDocument: no content, a pair with a missing side or its image elsewhere, a scored pair that is
            not two documents.
    """
    if meant_as_pair(document):
        _, image = sides(document)
        carries_image(image)
    elif not has_content(document):
        raise InvalidDocument("document must have text, blob, tensor, uri, embedding or chunks. Got none. Set one.")
    elif SCORE_TAG in document.tags and not (len(document.chunks) == 2 and all(map(has_content, document.chunks))):
        raise InvalidDocument(
            f"document with the tag {SCORE_TAG!r} must have two chunks with content. Got {len(document.chunks)} "
            f"chunks. Add the missing side, or remove the tag."
        )


def check_documents(documents: Iterable[Document], first: int = 0) -> None:
    """Check several documents.

    Args:
        documents: to check.
        first: position of the first one in its dataset.

    Raises:
        InvalidDocument: the first that cannot be stored, with its position and id.
    """
    for _ in read_each(documents, check_document, first):
        pass


def kind_of(document: Document) -> str:
    """Return PAIRS, SCORED, LABELLED or DOCUMENTS."""
    if SCORE_TAG in document.tags:
        return SCORED
    if meant_as_pair(document):
        return PAIRS
    return LABELLED if LABEL_TAG in document.tags else DOCUMENTS


def meaning(content: bytes) -> bytes:
    """Return the SHA-256 of what makes two documents the same: everything but ids and positions.

    Args:
        content: a document's protobuf, as `Document.to_bytes` writes it for a document that was read from one;
            a document made by hand may lack what DocArray adds when it reads it.
    """
    from docarray.proto.docarray_pb2 import DocumentProto

    message = DocumentProto.FromString(content)
    _forget_ids(message)
    return hashlib.sha256(message.SerializeToString(deterministic=True)).digest()


def _forget_ids(message: Any) -> None:
    for name in NOT_CONTENT:
        message.ClearField(name)
    for part in (*message.chunks, *message.matches):
        _forget_ids(part)
