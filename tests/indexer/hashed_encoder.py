"""An encoder that needs no model: every artifact turns a text into a direction of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from docarray import Document
from numpy.typing import NDArray

from finetuner.contract.wire import ARTIFACT_TAG, mark_error
from finetuner.exceptions import InvalidDocument

DIMS = {"old": 16, "new": 24}


def vector_of_text(artifact: str, text: str) -> NDArray[np.float32]:
    """Return the artifact's vector of a text, (dim,) float32, L2-normalised."""
    seed = int.from_bytes(hashlib.sha256(f"{artifact} {text}".encode()).digest()[:8], "big")
    vector = np.random.default_rng(seed).normal(size=DIMS.get(artifact, 16))
    return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


def encoded_text(document_id: str, text: str, artifact: str, **tags: object) -> Document:
    """Return a document as an encoder answers it."""
    vector = vector_of_text(artifact, text)
    return Document(id=document_id, text=text, embedding=vector, tags={**tags, ARTIFACT_TAG: artifact})


def encode(artifact: str, documents: Sequence[Document]) -> list[Document]:
    """Encode as the Flow does; a text 'broken' cannot be."""
    answered = []
    for document in documents:
        if document.text == "broken":
            answered.append(mark_error(Document(id=document.id), InvalidDocument("text must be whole. Got broken.")))
        else:
            answered.append(encoded_text(document.id, document.text, artifact))
    return answered
