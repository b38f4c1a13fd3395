"""Labelled images as documents: a blob, tensor or data URI, and the tag `finetuner_label`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..contract.wire import LABEL_TAG
from ..exceptions import InvalidDocument
from .images import is_text, read_data_uri
from .iterate import read_each
from .pairs import check_carries_image, png
from .tags import read_label

if TYPE_CHECKING:
    from docarray import Document


@dataclass(frozen=True)
class LabelledImage:
    """One image and its label."""

    image: bytes
    """The image's file."""
    label: str
    """Images with the same label are relevant to each other."""


def iterate_labelled(documents: Iterable[Document]) -> Iterator[LabelledImage]:
    """Yield the labelled images of several documents.

    Raises:
        InvalidDocument: the first document that is not a labelled image, with its position, from 0, and id.
    """
    return read_each(documents, _read)


def read_labelled(documents: Iterable[Document]) -> list[LabelledImage]:
    """Return the labelled images of several documents; errors as in `iterate_labelled`."""
    return list(iterate_labelled(documents))


def check_labelled(document: Document) -> str:
    """Return the label of an image.

    Raises:
        InvalidDocument: a text, a pair, or an image without a label.
    """
    if is_text(document) or document.chunks:
        found = "a text" if is_text(document) else f"{len(document.chunks)} chunks"
        raise InvalidDocument(
            f"document must be an image with a label, for a model of images. Got {found}. "
            f"Push images, or choose a CLIP for pairs of text and image."
        )
    label = read_label(document.tags.get(LABEL_TAG))
    if not label:
        raise InvalidDocument(f"image must have the tag {LABEL_TAG!r}, as its class. Got none. Add it.")
    return label


def _read(document: Document) -> LabelledImage:
    label = check_labelled(document)
    check_carries_image(document)
    blob = document.blob or (png(document.tensor) if document.tensor is not None else read_data_uri(document.uri))
    return LabelledImage(blob, label)
