"""Text-image pairs as documents: a parent with two chunks, of modality 'text' and 'image'."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ..contract.wire import LABEL_TAG, LANGUAGE_TAG, NEGATIVES_TAG, SCORE_TAG
from ..exceptions import InvalidDocument
from .images import UriReader, decode, from_tensor, read_data_uri
from .iterate import read_each
from .tags import check_negatives, check_tags, read_label, read_negatives, read_score

if TYPE_CHECKING:
    from docarray import Document


@dataclass(frozen=True)
class Pair:
    """One caption of one image."""

    text: str
    """The caption."""
    image: bytes
    """The image's file."""
    label: str = ""
    """Pairs with the same label are relevant to each other; with '', only pairs of the same image are."""
    language: str = ""
    """Metrics are also reported per language."""
    score: float | None = None
    """How well image and caption match, finite and at least 0; higher is better. None: the pair has no score."""
    negatives: tuple[str, ...] = ()
    """Captions that do not fit the image; training takes them as further negatives."""

    @cached_property
    def image_id(self) -> str:
        """SHA-256 of the image; an image with several captions has one id."""
        return hashlib.sha256(self.image).hexdigest()

    @property
    def relevance_key(self) -> str:
        """Key of relevance: an image is relevant to a query with the same key."""
        return f"label {self.label}" if self.label else f"image {self.image_id}"


def make_pair(text: str, image: bytes, tags: Mapping[str, Any] | None = None) -> Document:
    """Return a pair as a document.

    Args:
        text: the caption.
        image: an image file's bytes.
        tags: of the parent, for example {'finetuner_label': 'item-7', 'language': 'de'}.
    """
    from docarray import Document

    return Document(
        chunks=[Document(text=text, modality="text"), Document(blob=image, modality="image")], tags=dict(tags or {})
    )


def read_pair(document: Document) -> Pair:
    """Return the pair in a document, whose image is a blob, tensor or data URI.

    Raises:
        InvalidDocument: a missing, empty or second side, a tensor that is not an image, a score below 0, or a negative
            that is the caption.
    """
    text, image = sides(document)
    check_carries_image(image)
    blob = image.blob or (png(image.tensor) if image.tensor is not None else read_data_uri(image.uri))
    label = _tag(LABEL_TAG, document, text, image)
    language = _tag(LANGUAGE_TAG, document, text)
    return Pair(text.text, blob, label, language, pair_score(document), negatives_of(document))


def pair_score(document: Document) -> float | None:
    """Return the score of a pair, None for a pair without the tag `finetuner_score`.

    Raises:
        InvalidDocument: not a finite number, or below 0.
    """
    if SCORE_TAG not in document.tags:
        return None
    score = read_score(document.tags[SCORE_TAG])
    if score < 0:
        raise InvalidDocument(
            f"score of a pair must be at least 0: it becomes a weight and a gain. Got {score:g}. Shift the scores, "
            f"or remove the pair."
        )
    return score


def negatives_of(pair: Document) -> tuple[str, ...]:
    """Return the captions in the tag `finetuner_negatives` of a pair, or else of one of its sides.

    Raises:
        InvalidDocument: they are not captions, or one is the pair's own.
    """
    text, image = sides(pair)
    found = (read_negatives(part.tags.get(NEGATIVES_TAG)) for part in (pair, text, image))
    negatives = next(filter(None, found), [])
    check_negatives(negatives, [text.text])
    return tuple(negatives)


def _tag(name: str, *documents: Document) -> str:
    values = (read_label(document.tags.get(name), name) for document in documents)
    return next(filter(None, values), "")


def sides(document: Document) -> tuple[Document, Document]:
    """Return the text chunk and the image chunk of a pair, by modality, or by content without modality.

    Raises:
        InvalidDocument: not exactly one of each, or an empty one.
    """
    texts = [chunk for chunk in document.chunks if (chunk.modality or ("text" if chunk.text else "")) == "text"]
    images = [chunk for chunk in document.chunks if chunk not in texts]
    if len(texts) != 1 or len(images) != 1:
        raise InvalidDocument(
            f"pair must have two chunks, one text and one image. Got {len(texts)} text and {len(images)} image. "
            f"Add the missing side, or remove the document."
        )
    if not texts[0].text.strip():
        raise InvalidDocument("pair must have a text side with a caption. Got an empty text. Add it.")
    if not (images[0].blob or images[0].uri or images[0].tensor is not None):
        raise InvalidDocument("pair must have an image side with blob, tensor or uri. Got none. Add it.")
    return texts[0], images[0]


def check_carries_image(image: Document) -> None:
    """Check that a document holds its image's content: a server must not read a path or address.

    Raises:
        InvalidDocument: no blob, tensor or data URI.
    """
    if not (image.blob or image.tensor is not None or image.uri.startswith("data:")):
        raise InvalidDocument(
            f"pair must carry its image as blob or tensor. Got a uri alone, {image.uri[:80]!r}. "
            f"Push it with push_data, which reads the file."
        )


def png(tensor: Any) -> bytes:
    """Return an array as a PNG file.

    Raises:
        InvalidDocument: an array that is not (height, width, 3) or (height, width) uint8.
    """
    import io

    buffer = io.BytesIO()
    from_tensor(tensor).save(buffer, "PNG")
    return buffer.getvalue()


def with_image_blob(document: Document, read_uri: UriReader, *, check: bool = True) -> Document:
    """Return a copy of a pair with its image as a blob.

    Args:
        document: the pair; not changed.
        read_uri: returns the bytes of a path or address.
        check: whether to decode the image, as a check.

    Raises:
        InvalidDocument: a missing side, or an image that cannot be decoded.
    """
    text, image = sides(document)
    if not image.blob and image.tensor is not None:
        blob = png(image.tensor)
    else:
        blob = image.blob or (read_data_uri(image.uri) if image.uri.startswith("data:") else read_uri(image.uri))
        if check:
            decode(blob)
    tags = {**image.tags, **text.tags, **document.tags}
    check_tags(tags)
    negatives_of(document)
    pair = make_pair(text.text, blob, tags)
    pair.id = document.id
    return pair


def iterate_pairs(documents: Iterable[Document]) -> Iterator[Pair]:
    """Yield the pairs of several documents.

    Raises:
        InvalidDocument: the first document that is not a pair, or has a score below 0, with its position, from 0, and
            id.
    """
    return read_each(documents, read_pair)


def read_pairs(documents: Iterable[Document]) -> list[Pair]:
    """Return the pairs of several documents; errors as in `iterate_pairs`."""
    return list(iterate_pairs(documents))
