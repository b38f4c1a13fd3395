"""What a result grid shows of a document: everything but its images, and small JPEGs in their place."""

from __future__ import annotations

from executors.indexer.storage.packing import unpack
from finetuner.documents.thumbnails import shrink


def preview(content: bytes) -> bytes:
    """Return a packed document with its images as `shrink` makes them.

    Args:
        content: of `PackedDocument`.
    """
    document = unpack(content)
    shrink(document)
    message = document.to_protobuf()
    message.ClearField("id")  # DocArray makes one up where there is none
    small: bytes = message.SerializeToString()
    return small
