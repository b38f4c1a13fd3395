"""Reasons of failed downloads, for counts."""

from __future__ import annotations

from ...exceptions import InvalidDocument, UnreachableUri


def reason_of(error: InvalidDocument) -> str:
    """Return the kind of a failure in a few words, for a count; '' for one that is no link's."""
    if isinstance(error, UnreachableUri):
        return f"answered {error.answer}" if error.answer else "did not answer, or no such file"
    kinds = {"ForbiddenUri": "not allowed", "UndecodableImage": "not an image", "ImageTooLarge": "too large"}
    return kinds.get(type(error).__name__, "")
