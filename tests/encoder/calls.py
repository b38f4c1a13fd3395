"""Calls of an encoder room, and checks of its answers."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from docarray import Document, DocumentArray

from finetuner.contract.wire import ARTIFACT_TAG, error_of
from finetuner.executors.encoder.encoder_room import EncoderRoom

TEXTS = ["a red dress", "ein blaues Hemd mit langen Ärmeln und Streifen", "?", "shoes " * 60, "鞋", "a red dress"]


def encoded(room: EncoderRoom, documents: list[Document], **parameters: Any) -> DocumentArray:
    docs = DocumentArray(documents)
    assert asyncio.run(room.encode(docs=docs, parameters=parameters)) is None
    return docs


def check_vectors(found: DocumentArray, expected: np.ndarray, model_id: str) -> None:
    assert found.embeddings.dtype == np.float32
    np.testing.assert_allclose(found.embeddings, expected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found.embeddings, axis=1), 1, atol=1e-5)
    assert {document.tags[ARTIFACT_TAG] for document in found} == {model_id}
    assert [error_of(document) for document in found] == [None] * len(found)
