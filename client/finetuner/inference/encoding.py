"""Sets embeddings on documents: each gets a vector and the id of its model, or the error of its own content."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ..contract.dimensions import checked_dimensions, shortened
from ..contract.wire import ARTIFACT_TAG, ERROR_TAG, mark_error
from ..documents.images import UriReader, image_of, is_text
from ..documents.tags import checked_unicode
from ..exceptions import FinetunerError, TextTooLong
from ..models.clip import TEXT, TOWERS

if TYPE_CHECKING:
    import numpy as np
    from docarray import Document
    from PIL.Image import Image

MAX_TEXT = 100_000


class Encoder(Protocol):
    """The interface of a model that encodes documents: a `Clip`, an `ImageModel` or an `OnnxModel`."""

    model_id: str
    """Artifact id or backbone name; it is written beside each vector."""
    dim: int
    """Embedding size."""
    short_dims: Sequence[int]
    """Smaller sizes of vectors that it was trained for."""

    def encode_texts(self, texts: Sequence[str], batch_size: int = 32) -> np.ndarray:
        """Return (texts, dim) float32, L2-normalised; an image model refuses."""

    def encode_images(self, images: Sequence[Image], batch_size: int = 32) -> np.ndarray:
        """Return (images, dim) float32, L2-normalised; a text tower refuses."""


def encode_documents(
    model: Encoder,
    documents: Sequence[Document],
    *,
    read_uri: UriReader,
    towers: tuple[str, ...] = TOWERS,
    batch_size: int = 32,
    on_batch: Callable[[int], None] = lambda done: None,
    dimensions: int | None = None,
) -> tuple[int, int]:
    """Set `embedding`, (dim,) or (dimensions,) float32 and L2-normalised, and the model's id on each document.

    A document with text goes to the text tower. Any other is an image as blob, tensor or uri, and goes to the vision
    tower or the image model.

    Args:
        model: the model with these towers.
        documents: changed in place. The error tag of an earlier attempt is removed.
        read_uri: reads the bytes of a URI, or refuses it.
        towers: the towers to use. Documents for another tower stay unchanged.
        batch_size: documents in a forward pass.
        on_batch: called after each pass with its number of documents.
        dimensions: size of the vectors, the model's own or one that it was trained for; None is its own.

    Returns:
        The number of documents with an embedding, and the number with an error.

    Raises:
        InvalidInput: other `dimensions`.
    """
    dim = checked_dimensions(dimensions, model)
    encoded = failed = 0
    for tower in towers:
        waiting = [document for document in documents if is_text(document) == (tower == TEXT)]
        for start in range(0, len(waiting), batch_size):
            batch = waiting[start : start + batch_size]
            good = _encode_batch(model, batch, tower, read_uri, dim)
            encoded, failed = encoded + good, failed + len(batch) - good
            on_batch(len(batch))
    return encoded, failed


def _encode_batch(model: Encoder, batch: list[Document], tower: str, read_uri: UriReader, dim: int) -> int:
    good: list[Document] = []
    inputs: list[Any] = []
    for document in batch:
        document.tags.pop(ERROR_TAG, None)
        try:
            inputs.append(text_of(document) if tower == TEXT else image_of(document, read_uri))
            good.append(document)
        except FinetunerError as error:
            mark_error(document, error)
    vectors = (model.encode_texts if tower == TEXT else model.encode_images)(inputs, batch_size=max(len(inputs), 1))
    for document, vector in zip(good, shortened(vectors, dim), strict=True):
        document.embedding = vector
        document.tags[ARTIFACT_TAG] = model.model_id
    return len(good)


def text_of(document: Document) -> str:
    """Return a document's text.

    Raises:
        TextTooLong: the text has more than MAX_TEXT characters.
        InvalidDocument: it is not Unicode.
    """
    text = str(document.text)
    if len(text) > MAX_TEXT:
        raise TextTooLong(f"text must be at most {MAX_TEXT} characters. Got {len(text)}. Cut it.")
    return checked_unicode(text, "text")
