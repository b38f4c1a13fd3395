"""Messages are answered as the Documents that they would become."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from docarray import Document, DocumentArray

from finetuner.contract.wire import ENCODE, ERROR_TAG, INDEX, SEARCH
from finetuner.executors.encoder.encoder_room import EncoderRoom
from finetuner.executors.text_encoder.executor import TextEncoder
from finetuner.executors.vision_encoder.executor import VisionEncoder

from .calls import TEXTS, encoded
from .conftest import TUNED

TEXTS_AND_BAD = [{"text": text} for text in [*TEXTS, "x" * 100_001]] + [{"uri": "data:image/png;base64,no"}]


def answered(room: EncoderRoom, documents: list[Document], endpoint: str, **parameters: Any) -> DocumentArray:
    request = DocumentArray(documents).to_protobuf()
    assert room.takes_messages(endpoint, request.docs)
    asyncio.run(room.answer_messages(endpoint, request.docs, parameters))
    return DocumentArray.from_protobuf(request)


@pytest.mark.parametrize("parameters", [{"count_tokens": True}, {"artifact": TUNED}, {"artifact": "gone"}, {"a": 1}])
def test_texts_get_the_same_vectors_tags_and_errors(text_room: TextEncoder, parameters: dict[str, Any]) -> None:
    documents = [{"id": str(row), "tags": {"a": 1, ERROR_TAG: "old"}, **each} for row, each in enumerate(TEXTS_AND_BAD)]
    expected = encoded(text_room, [Document(**each) for each in documents], **parameters)
    found = answered(text_room, [Document(**each) for each in documents], ENCODE, **parameters)
    for mine, theirs in zip(found, expected, strict=True):
        assert (mine.id, mine.text, mine.uri, mine.tags) == (theirs.id, theirs.text, theirs.uri, theirs.tags)
        assert (mine.embedding is None) == (theirs.embedding is None)
        if mine.embedding is not None:
            assert mine.embedding.dtype == np.float32
            np.testing.assert_allclose(mine.embedding, theirs.embedding, atol=1e-6)


def test_images_are_encoded_and_dropped(vision_room: VisionEncoder, images: list[bytes]) -> None:
    documents = [{"blob": images[0]}, {"blob": b"no image"}, {"text": "a text"}]
    expected = encoded(vision_room, [Document(**each) for each in documents], drop_image_content=True)
    found = answered(vision_room, [Document(**each) for each in documents], ENCODE, drop_image_content=True)
    np.testing.assert_allclose(found[0].embedding, expected[0].embedding, atol=1e-6)
    assert [each.tags for each in found] == [each.tags for each in expected]
    assert [(each.blob, each.text) for each in found] == [(b"", ""), (b"", ""), (b"", "a text")]


@pytest.mark.parametrize("endpoint", [SEARCH, INDEX])
def test_searches_and_new_documents_get_vectors_and_keep_their_parameters(
    text_room: TextEncoder, endpoint: str
) -> None:
    found = answered(text_room, [Document(text="a red dress")], endpoint, limit=3.0, filter={})
    assert found[0].embedding is not None


@pytest.mark.parametrize(
    ("document", "endpoint"),
    [
        ({}, ENCODE),
        ({"tensor": np.zeros((4, 4, 3), np.uint8)}, ENCODE),
        ({"text": "a", "embedding": np.ones(3, np.float32)}, SEARCH),
        ({"text": "a", "chunks": [Document(id="b", text="b")]}, SEARCH),
        ({"text": "a"}, "/rank"),
        ({"text": "a"}, "/"),
    ],
)
def test_other_documents_take_their_own_way(text_room: TextEncoder, document: dict[str, Any], endpoint: str) -> None:
    assert not text_room.takes_messages(endpoint, DocumentArray([Document(**document)]).to_protobuf().docs)
