"""A document as it is stored: without its vector, and with what filters look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from docarray import Document

from executors.indexer.storage.fields import Field, fields_of, filterable
from finetuner.contract.wire import ARTIFACT_TAG
from finetuner.exceptions import InvalidDocument

# Not content: a vector lives in the collection of its artifact, and the rest is some search's outcome.
NOT_CONTENT = ("embedding", "matches", "scores", "evaluations")


@dataclass(frozen=True, slots=True)
class PackedDocument:
    """One document as it is stored.

    `tags` is the protobuf message with id and tags alone, `content` the one with everything else. A message
    may be cut anywhere between its fields, so `tags + content` is the whole document again.
    """

    id: str
    tags: bytes
    content: bytes
    filterable: Mapping[str, Any]
    """What engines keep of the tags."""
    fields: Sequence[Field]
    """What filters may name from now on."""


def pack(document: Document) -> PackedDocument:
    """Return the document as it is stored; the argument stays as it is.

    Raises:
        InvalidDocument: an empty id, tags that are too large, or something in it that protobuf cannot hold.
    """
    if not document.id:
        raise InvalidDocument("a document must have an id. Got an empty one. Set it or leave it to DocArray.")
    try:
        message = document.to_protobuf()
        for part in (message, *message.chunks):
            for field in NOT_CONTENT:
                part.ClearField(field)
            # Which artifact a vector is of is the collection's to say; one document may be in several.
            part.tags.fields.pop(ARTIFACT_TAG, None)
        light = type(message)(id=message.id, tags=message.tags)
        message.ClearField("id")
        message.ClearField("tags")
        stored = light.SerializeToString()
        # a NaN tag can be written but not read: better refused once than failing every search that finds it
        tags = unpack(stored).tags
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidDocument(
            f"a document must be what protobuf can hold. Got {error}. Tags take strings, finite numbers, "
            "booleans, lists and mappings of these."
        ) from error
    return PackedDocument(document.id, stored, message.SerializeToString(), filterable(tags), [*fields_of(tags)])


def unpack(packed: bytes) -> Document:
    """Return the document of `PackedDocument.tags`, or of `tags + content`."""
    return Document.from_bytes(packed, protocol="protobuf")
