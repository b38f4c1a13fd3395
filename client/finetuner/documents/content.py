"""Checks of documents for a dataset: each has content, and pairs are complete."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..contract.values import plain
from ..contract.wire import LABEL_TAG, SCORE_TAG
from ..exceptions import InvalidDocument, InvalidInput
from .iterate import read_each
from .labelled import check_labelled
from .pairs import check_carries_image, negatives_of, pair_score, sides
from .tags import check_tags, read_label

if TYPE_CHECKING:
    from docarray import Document

# Fields that are not content: ids, which are often random, and the position in a tree of documents.
NOT_CONTENT = ("id", "parent_id", "granularity", "adjacency")
PAIRS, SCORED, LABELLED, DOCUMENTS = "pairs", "scored pairs", "labelled", "documents"
KIND_OF_TASK = {"text-to-image": PAIRS, "image-to-image": LABELLED}
"""Kind of the documents that a model of a task trains on."""


def looks_like_pair(document: Document) -> bool:
    """Return whether a document is a pair, complete or not: one or two chunks, and no content of its own.

    With a score, two texts or two images may be meant: such a document is a pair if it has a text and an image.
    """
    own = document.text or document.blob or document.uri or document.tensor is not None
    multimodal = document.non_empty_fields and "_metadata" in document.non_empty_fields
    if own or multimodal or not 0 < len(document.chunks) <= 2:
        return False
    return SCORE_TAG not in document.tags or _has_both_sides(document)


def _has_both_sides(document: Document) -> bool:
    try:
        sides(document)
    except InvalidDocument:
        return False
    return True


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
    """Check that a dataset can hold a document; images are not decoded.

    Raises:
        InvalidDocument: a document without content, a pair with a missing side or without its image's content, a
            scored pair without exactly two chunks, an invalid label, score or negative, or tags that lose digits on the
            wire, see `plain`.
    """
    try:
        for part in (document, *document.chunks):
            plain(part.tags, "tags")
            check_tags(part.tags)
    except InvalidInput as error:
        raise InvalidDocument(str(error)) from None
    if looks_like_pair(document):
        _, image = sides(document)
        check_carries_image(image)
        negatives_of(document)
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
        InvalidDocument: the first invalid document, with its position and id.
    """
    for _ in read_each(documents, check_document, first):
        pass


def kind_of(document: Document) -> str:
    """Return PAIRS, SCORED, LABELLED or DOCUMENTS."""
    if SCORE_TAG in document.tags:
        return SCORED
    if looks_like_pair(document):
        return PAIRS
    return LABELLED if read_label(document.tags.get(LABEL_TAG)) else DOCUMENTS


def check_kind(document: Document, kind: str) -> None:
    """Check that a model can train on a document.

    Args:
        document: to check; its image is not decoded.
        kind: PAIRS, with or without scores, or LABELLED.

    Raises:
        InvalidDocument: a document of another kind, or a score below 0.
    """
    if kind == LABELLED:
        check_labelled(document)
    else:
        sides(document)
        pair_score(document)
    if (found := kind_of(document)) not in ((PAIRS, SCORED) if kind == PAIRS else (kind,)):
        raise InvalidDocument(f"document must be one of {kind}. Got one of {found}. Correct its tags and chunks.")


def content_digest(content: bytes) -> bytes:
    """Return the SHA-256 of a document without its ids and positions: equal documents have equal digests.

    Args:
        content: protobuf that `Document.to_bytes` wrote for a document that was itself read from protobuf. DocArray
            adds fields as it reads, so a new document may have another digest.
    """
    from docarray.proto.docarray_pb2 import DocumentProto

    message = DocumentProto.FromString(content)
    _clear_ids(message)
    return hashlib.sha256(message.SerializeToString(deterministic=True)).digest()


def _clear_ids(message: Any) -> None:
    for name in NOT_CONTENT:
        message.ClearField(name)
    for part in (*message.chunks, *message.matches):
        _clear_ids(part)
