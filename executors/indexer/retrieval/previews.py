"""Previews for result grids: documents with small JPEGs instead of their images."""

from __future__ import annotations

from finetuner.documents.thumbnails import shrink
from finetuner.exceptions import InvalidDocument
from finetuner.executors.indexer.storage.packing import unpack


def preview(content: bytes) -> bytes:
    """Return a packed document whose images are small JPEGs. A damaged content stays as it is.

    Args:
        content: see `PackedDocument`.
    """
    try:
        document = unpack(content)
    except InvalidDocument:
        return content
    shrink(document)
    message = document.to_protobuf()
    message.ClearField("id")  # DocArray generated this id
    small: bytes = message.SerializeToString()
    return small
