"""Documents as the wire carries them: each is checked, and its tags become plain values, before anything is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..contract.values import plain, whole_text
from ..exceptions import InvalidDocument, InvalidInput

if TYPE_CHECKING:
    from docarray import Document

TEXTS = ("id", "parent_id", "text", "uri", "mime_type", "modality")
CHECKED = {*TEXTS, "blob", "tags", "chunks"}  # field by field; of the others, protobuf is asked


def carried(document: Document) -> Document:
    """Return a document that protobuf can carry: the same one, or a copy with plain tags.

    Raises:
        InvalidDocument: a field that protobuf cannot carry. The message has the field's name.
    """
    from docarray import Document

    try:
        for name in TEXTS:
            _check_text(name, getattr(document, name))
        if document.blob and not isinstance(document.blob, bytes):
            raise InvalidInput(f"blob must be bytes. Got {type(document.blob).__name__}. Use bytes(...).")
        for name in ("tensor", "embedding"):
            if getattr(getattr(getattr(document, name), "dtype", None), "kind", "") == "O":
                raise InvalidInput(f"{name} must hold numbers. Got objects. Use an array of one number type.")
        tags = plain(document.tags, "tags")
        chunks = [carried(chunk) for chunk in document.chunks]
    except InvalidInput as error:
        raise InvalidDocument(str(error)) from None
    if tags or chunks:
        document = Document(document, copy=True)
        document.tags = tags
        document.chunks = chunks
    if set(document.non_empty_fields) - CHECKED:
        try:
            document.to_protobuf()
        except (TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
            reason = " ".join(str(error).split())
            raise InvalidDocument(f"protobuf must be able to hold the document. Got {reason:.200}.") from None
    return document


def _check_text(name: str, value: Any) -> None:
    if value is None or value == "":
        return
    if not isinstance(value, str):
        raise InvalidInput(f"{name} must be a string. Got {value!r:.80} of type {type(value).__name__}. Use str(...).")
    whole_text(value, name)
