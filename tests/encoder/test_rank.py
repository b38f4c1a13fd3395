"""`/rank` of both rooms, in either order, with one model. An error stays on its own document."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from docarray import Document, DocumentArray

from finetuner.contract.wire import ARTIFACT_TAG, error_of
from finetuner.documents.images import decode
from finetuner.exceptions import InvalidDocument
from finetuner.executors.encoder.encoder_room import EncoderRoom
from finetuner.executors.encoder.ranking import COSINE, PREVIOUS_TAG, SCORE
from finetuner.executors.text_encoder.executor import TextEncoder
from finetuner.executors.vision_encoder.executor import VisionEncoder
from finetuner.models.clip import Clip
from finetuner.workspace.folder import Workspace

from .conftest import TUNED, Start

TEXTS = ["a red dress", "a blue shirt", "shoes"]


def rank(rooms: Sequence[EncoderRoom], documents: list[Document], between: Callable[[], object] = int) -> DocumentArray:
    """Send documents through the rooms. `between` runs after the first room."""
    found = DocumentArray(documents)
    asyncio.run(rooms[0].rank(docs=found, parameters={}))
    between()
    for room in rooms[1:]:
        found = DocumentArray.from_protobuf(found.to_protobuf())  # as between two processes
        asyncio.run(room.rank(docs=found, parameters={}))
    return found


@pytest.fixture(params=["texts first", "images first"])
def rooms(request: pytest.FixtureRequest, text_room: TextEncoder, vision_room: VisionEncoder) -> list[EncoderRoom]:
    return [text_room, vision_room] if request.param == "texts first" else [vision_room, text_room]


def test_the_order_of_the_rooms_makes_no_difference(
    rooms: list[EncoderRoom], clip_mini: Clip, images: list[bytes]
) -> None:
    texts = clip_mini.encode_texts(TEXTS)
    cosines = texts @ clip_mini.encode_images([decode(images[0])])[0]  # (3,) float32
    of_texts = texts[1:] @ texts[0]
    stale = {"embedding": np.ones(128, np.float32), "tags": {ARTIFACT_TAG: "clip-mini"}}
    documents = [
        Document(blob=images[0], **stale, matches=[Document(text=text, **stale) for text in TEXTS]),
        Document(text=TEXTS[0], matches=[Document(text=text) for text in TEXTS[1:]]),
    ]
    for document, expected, candidates in zip(
        rank(rooms, documents), [cosines, of_texts], [TEXTS, TEXTS[1:]], strict=True
    ):
        order = np.argsort(-expected)
        assert [match.text for match in document.matches] == [candidates[row] for row in order]
        found = [match.scores[COSINE].value for match in document.matches]
        np.testing.assert_allclose(found, expected[order], atol=1e-5)
        assert sum(match.scores[SCORE].value for match in document.matches) == pytest.approx(1)
        assert PREVIOUS_TAG not in document.tags


def test_a_promotion_between_the_rooms_mixes_no_models(
    own_workspace: Workspace,
    start: Start,
    publish_tuned: Callable[[Workspace, str, int], None],
    images: list[bytes],
) -> None:
    rooms = [start(kind, own_workspace, switch_wait=60) for kind in (TextEncoder, VisionEncoder)]
    publish_tuned(own_workspace, TUNED, 1)
    (found,) = rank(
        rooms,
        [Document(text=TEXTS[0], matches=[Document(blob=blob) for blob in images[:2]])],
        between=lambda: own_workspace.aliases.set("live", {"artifact": TUNED}),
    )
    assert {part.tags[ARTIFACT_TAG] for part in (found, *found.matches)} == {"clip-mini"}
    assert all(SCORE in match.scores for match in found.matches)


def test_bad_documents_carry_their_errors(rooms: list[EncoderRoom], images: list[bytes]) -> None:
    broken, good = Document(blob=b"no image"), Document(blob=images[0])
    scored = Document(text=TEXTS[0])
    scored.scores[SCORE].value = 1
    one, two, three = rank(
        rooms,
        [
            Document(text=TEXTS[0], matches=[broken, good]),
            Document(blob=b"no image", matches=[scored]),
            Document(text=TEXTS[0]),
        ],
    )
    assert [isinstance(error_of(match), InvalidDocument) for match in one.matches] == [False, True]
    assert one.matches[0].scores[SCORE].value == 1
    assert not one.matches[1].scores
    assert isinstance(error_of(two), InvalidDocument)
    assert SCORE not in two.matches[0].scores
    assert "must have matches to rank" in str(error_of(three))
