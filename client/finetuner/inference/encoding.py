"""Documents -> embeddings, with the model's id beside each vector and each document's own fault on itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ..contract.wire import ARTIFACT_TAG, ERROR_TAG, mark_error
from ..documents.images import UriReader, image_of, is_text
from ..exceptions import FinetunerError, TextTooLong
from ..models.clip import TEXT, TOWERS

if TYPE_CHECKING:
    import numpy as np
    from docarray import Document
    from PIL.Image import Image

MAX_TEXT = 100_000


class Encoder(Protocol):
    """What a model has to do here, whatever runs it: a `Clip`, an `ImageModel`, an `OnnxModel`."""

    model_id: str
    """What is written beside each vector."""
    dim: int
    """Embedding size."""

    def encode_texts(self, texts: Sequence[str], batch_size: int = 32) -> np.ndarray:
        """Return (texts, dim) float32, L2-normalised; a model of images refuses."""

    def encode_images(self, images: Sequence[Image], batch_size: int = 32) -> np.ndarray:
        """Return (images, dim) float32, L2-normalised; a model of texts refuses."""


def encode_documents(
    model: Encoder,
    documents: Sequence[Document],
    *,
    read_uri: UriReader,
    towers: tuple[str, ...] = TOWERS,
    batch_size: int = 32,
    on_batch: Callable[[int], None] = lambda done: None,
) -> tuple[int, int]:
    """Set `embedding`, (dim,) float32 and L2-normalised, and the model's id on each document.

    A document with text is for the text tower; any other is for the vision tower, or for a model of images alone, as
    blob, tensor or uri.

    Args:
        model: holds the towers asked for.
        documents: changed in place; the error tag of an earlier attempt is taken off.
        read_uri: decides which URIs are fetched.
        towers: documents for a tower that is not named are left alone.
        batch_size: documents a forward pass.
        on_batch: told the number of documents done after each pass.

    Returns:
        How many got an embedding, and how many an error.
    """
    answered = refused = 0
    for tower in towers:
        waiting = [document for document in documents if is_text(document) == (tower == TEXT)]
        for start in range(0, len(waiting), batch_size):
            batch = waiting[start : start + batch_size]
            good = _encode_batch(model, batch, tower, read_uri)
            answered, refused = answered + good, refused + len(batch) - good
            on_batch(len(batch))
    return answered, refused


def _encode_batch(model: Encoder, batch: list[Document], tower: str, read_uri: UriReader) -> int:
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
    for document, vector in zip(good, vectors, strict=True):
        document.embedding = vector
        document.tags[ARTIFACT_TAG] = model.model_id
    return len(good)


def text_of(document: Document) -> str:
    """Return a document's text.

    Raises:
        TextTooLong: longer than MAX_TEXT.
    """
    if len(document.text) > MAX_TEXT:
        raise TextTooLong(f"text must be at most {MAX_TEXT} characters. Got {len(document.text)}. Cut it.")
    return str(document.text)
