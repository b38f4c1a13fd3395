"""Labelled pictures as DocArray v1 holds them: blob, tensor or data URI, and the tag `finetuner_label`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..contract.wire import LABEL_TAG
from ..exceptions import InvalidDocument
from .images import is_text, read_data_uri
from .iterate import read_each
from .pairs import carries_picture, png

if TYPE_CHECKING:
    from docarray import Document


@dataclass(frozen=True)
class LabelledPicture:
    """One picture and the label that it shares with those it shall be found by."""

    image: bytes
    """The picture's file."""
    label: str
    """Pictures of one label are relevant to each other."""


def read_label(value: object) -> str:
    """Return a label's name; 3 and 3.0 are the same one, since numbers come as floats through protobuf."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value)


def iterate_labelled(documents: Iterable[Document]) -> Iterator[LabelledPicture]:
    """Yield the labelled pictures of several documents.

    Raises:
        InvalidDocument: the first that is none, with its position, from 0, and id.
    """
    return read_each(documents, _read)


def read_labelled(documents: Iterable[Document]) -> list[LabelledPicture]:
    """Return the labelled pictures of several documents; errors as of `iterate_labelled`."""
    return list(iterate_labelled(documents))


def _read(document: Document) -> LabelledPicture:
    if is_text(document) or document.chunks:
        found = "a text" if is_text(document) else f"{len(document.chunks)} chunks"
        raise InvalidDocument(
            f"document must be a picture with a label, for a model of pictures. Got {found}. "
            f"Push pictures, or choose a CLIP for pairs of text and picture."
        )
    label = document.tags.get(LABEL_TAG)
    if label is None or label == "":
        raise InvalidDocument(f"picture must have the tag {LABEL_TAG!r}, to know what belongs together. Got none.")
    carries_picture(document)
    blob = document.blob or (png(document.tensor) if document.tensor is not None else read_data_uri(document.uri))
    return LabelledPicture(blob, read_label(label))
