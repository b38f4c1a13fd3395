"""Converts the samples of shards, whatever their file format, to documents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..contract.wire import LABEL_TAG
from ..documents.images import decode
from ..documents.pairs import make_pair
from ..documents.tags import make_tags, read_caption
from ..exceptions import InvalidDocument
from .rejects import Entries, usable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docarray import Document

Sample = Mapping[str, Any]
"""Keys 'image' (bytes), 'text', 'label', 'score' and 'language'; each may be missing or None."""


def sample_documents(samples: Entries[Sample], source: str, task: str, on_error: str) -> Iterator[Document]:
    """Return the documents of samples, read lazily.

    Args:
        samples: with their positions.
        source: its name for the user, for messages.
        task: 'text-to-image' or 'image-to-image'.
        on_error: 'raise' or 'skip'.

    Returns:
        Pairs (see `documents.pairs`) or images as blobs, with tags `finetuner_label`, `finetuner_score` and `language`.

    Raises:
        InvalidInput: no samples.
        InvalidDocument: invalid samples, all named in one error after the last sample.
    """

    def use(sample: Sample) -> list[Document]:
        from docarray import Document

        blob, tags = sample.get("image"), make_tags(*map(sample.get, ("label", "score", "language")))
        if not isinstance(blob, bytes) or not blob:
            raise InvalidDocument("sample must hold its image's bytes. Got none. Add them; paths are not read.")
        if task == "text-to-image":
            text = read_caption(sample.get("text"))
            decode(blob)
            return [make_pair(text, blob, tags)]
        if LABEL_TAG not in tags:
            raise InvalidDocument(f"sample must have a label for image-to-image. Got {sample.get('label')!r}. Add it.")
        decode(blob)
        return [Document(blob=blob, modality="image", tags=tags)]

    return usable(samples, use, source=source, on_error=on_error)
