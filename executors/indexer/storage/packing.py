"""Packs documents for storage: without vectors, with the tags that filters read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from docarray import Document
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from finetuner.contract.values import plain
from finetuner.contract.wire import ARTIFACT_TAG, TOWER_TAG
from finetuner.exceptions import InvalidDocument
from finetuner.executors.indexer.storage.fields import Field, fields_of, filterable
from finetuner.workspace.folder import DAMAGE

# Not content: the vector is in its artifact's collection, and the others are results of searches.
NOT_CONTENT = ("embedding", "matches", "scores", "evaluations")


@dataclass(frozen=True, slots=True)
class PackedDocument:
    """One stored document.

    `tags` is a protobuf message with id and tags only, `content` one with everything else. Protobuf messages of one
    type can be concatenated, so `tags + content` is the whole document.
    """

    id: str
    tags: bytes
    content: bytes
    filterable: Mapping[str, Any]
    """The tags as engines store them."""
    fields: Sequence[Field]
    """The fields that filters may name."""


def pack(document: Document) -> PackedDocument:
    """Return the stored form of a document. The argument does not change.

    Raises:
        InvalidDocument: an empty id, too large tags, or a value that protobuf cannot hold.
    """
    if not document.id:
        raise InvalidDocument("a document must have an id. Got an empty one. Set it or leave it to DocArray.")
    try:
        message = document.to_protobuf()
        for part in (message, *message.chunks):
            for field in NOT_CONTENT:
                part.ClearField(field)
            # The collection records the artifact of a vector; one document may be in several collections.
            part.tags.fields.pop(ARTIFACT_TAG, None)
            part.tags.fields.pop(TOWER_TAG, None)
        light = type(message)(id=message.id, tags=message.tags)
        message.ClearField("id")
        message.ClearField("tags")
        stored = light.SerializeToString()
        # Protobuf writes a NaN tag but cannot read it. Refuse it now, or every search that finds it fails.
        tags = plain(Document.from_bytes(stored, protocol="protobuf").tags, "tags")
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidDocument(
            f"protobuf must be able to hold the document. Got: {error} Use strings, finite numbers, booleans, lists "
            "and mappings of these in tags."
        ) from error
    return PackedDocument(document.id, stored, message.SerializeToString(), filterable(tags), [*fields_of(tags)])


def unpack(packed: bytes, document_id: str | None = None) -> Document:
    """Return the document of `PackedDocument.tags`, or of `tags + content`.

    Args:
        packed: the bytes.
        document_id: expected id, None for any.

    Raises:
        InvalidDocument: the bytes are damaged.
    """
    try:
        document = Document.from_bytes(packed, protocol="protobuf")
        if document_id not in (None, document.id):
            raise ValueError(f"document {document.id!r}")
        return document
    except (*DAMAGE, DecodeError) as error:
        raise InvalidDocument(
            f"a stored document must be readable. Got {error!r:.200}. Index it again, or restore a backup."
        ) from error
