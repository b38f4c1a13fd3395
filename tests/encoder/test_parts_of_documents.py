"""Documents of several parts before indexing: each room encodes its parts, and both use one model."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from docarray import Document, DocumentArray

from finetuner.contract.wire import ARTIFACT_TAG, TOWER_TAG, error_of
from finetuner.documents.images import decode
from finetuner.exceptions import EmptyDocument, UndecodableImage
from finetuner.executors.encoder.encoder_room import EncoderRoom
from finetuner.executors.text_encoder.executor import TextEncoder
from finetuner.executors.vision_encoder.executor import VisionEncoder
from finetuner.models.clip import TEXT, VISION, Clip
from finetuner.workspace.folder import Workspace

from .calls import encoded
from .conftest import Start

TUNED = "0123456789abcdef01234567"


def asked(room: EncoderRoom, endpoint: str, docs: DocumentArray, **parameters: object) -> None:
    method = room.encode_new if endpoint == "/index" else room.encode_queries
    asyncio.run(method(docs=docs, parameters=parameters))


@pytest.mark.parametrize("endpoint", ["/index", "/search"])
def test_parts_and_whole_documents_of_one_request(
    text_room: TextEncoder, vision_room: VisionEncoder, clip_mini: Clip, images: list[bytes], endpoint: str
) -> None:
    pair = Document(chunks=[Document(blob=images[0]), Document(text="a red dress")])
    own = Document(text="its own", chunks=[Document(text="not asked for")])
    docs = DocumentArray([pair, own, Document(blob=images[1])])
    for room in (text_room, vision_room):
        asked(room, endpoint, docs)
    image, caption = pair.chunks
    np.testing.assert_allclose(image.embedding, clip_mini.encode_images([decode(images[0])])[0], atol=1e-6)
    np.testing.assert_allclose(caption.embedding, clip_mini.encode_texts(["a red dress"])[0], atol=1e-6)
    assert pair.embedding is None, "the indexer joins them"
    assert own.embedding is not None
    assert own.chunks[0].embedding is None
    assert docs[2].embedding is not None


def test_the_second_room_takes_the_model_of_the_first(
    text_room: TextEncoder, vision_room: VisionEncoder, images: list[bytes]
) -> None:
    pair = Document(chunks=[Document(blob=images[0]), Document(text="a red dress")])
    asked(text_room, "/index", DocumentArray([pair]), artifact=TUNED)
    asked(vision_room, "/index", DocumentArray([pair]))  # as if `live` had moved in between
    assert [part.tags[ARTIFACT_TAG] for part in pair.chunks] == [TUNED, TUNED]
    assert [part.tags[TOWER_TAG] for part in pair.chunks] == [VISION, TEXT], "the indexer learns the tower"
    asked(text_room, "/search", DocumentArray([query := Document(text="a red dress")]))
    assert query.tags[TOWER_TAG] == TEXT, "that of queries, too: probabilities are calibrated for each"
    assert TOWER_TAG not in encoded(text_room, [Document(text="a red dress")])[0].tags, "and nobody else"


def test_a_broken_part_is_its_own_error(start: Start, own_workspace: Workspace, images: list[bytes]) -> None:
    pair = Document(chunks=[Document(blob=images[0]), Document(blob=b"rubbish"), Document()])
    asked(start(VisionEncoder, own_workspace), "/index", DocumentArray([pair]))
    assert [type(error_of(part)) for part in pair.chunks] == [type(None), UndecodableImage, EmptyDocument]
