"""`dimensions` of `/encode`: the first numbers of the vectors of a model that was trained for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
import pytest
from docarray import Document, DocumentArray

from finetuner.contract.dimensions import shortened
from finetuner.contract.wire import ARTIFACT_TAG, error_of
from finetuner.documents.images import decode
from finetuner.exceptions import InvalidInput
from finetuner.executors.text_encoder.executor import TextEncoder
from finetuner.executors.vision_encoder.executor import VisionEncoder
from finetuner.models.clip import Clip
from finetuner.workspace.folder import Workspace

from .calls import TEXTS, check_vectors, encoded
from .conftest import SHORT, TUNED, Start

MINE = {"artifact": TUNED}


def test_short_vectors_are_the_first_numbers_normalised_again(
    text_room: TextEncoder, vision_room: VisionEncoder, tuned: Clip, images: list[bytes]
) -> None:
    for size in (128, *SHORT):
        found = encoded(text_room, [Document(text=text) for text in TEXTS], dimensions=size, **MINE)
        check_vectors(found, shortened(tuned.encode_texts(TEXTS), size), TUNED)
        found = encoded(vision_room, [Document(blob=blob) for blob in images], dimensions=float(size), **MINE)
        check_vectors(found, shortened(tuned.encode_images([decode(blob) for blob in images]), size), TUNED)


@pytest.mark.parametrize("size", [100, 0, 1.5, "64", True, [64]], ids=str)
def test_other_sizes_are_refused_with_the_list(size: object, text_room: TextEncoder) -> None:
    for found in encoded(text_room, [Document(text=text) for text in TEXTS[:2]], dimensions=size, **MINE):
        error = error_of(found)
        assert isinstance(error, InvalidInput)
        assert f"dimensions must be one of 128, 64, 32, the sizes of the embeddings of {TUNED}. Got" in str(error)
        assert found.embedding is None
        assert ARTIFACT_TAG not in found.tags


def test_a_model_of_one_size_says_how_to_get_others(text_room: TextEncoder, clip_mini: Clip) -> None:
    check_vectors(encoded(text_room, [Document(text="a")], dimensions=128), clip_mini.encode_texts(["a"]), "clip-mini")
    (found,) = encoded(text_room, [Document(text="a")], dimensions=64)
    message = str(error_of(found))
    assert message.startswith("dimensions must be 128, the size of the embeddings of clip-mini. Got 64. Leave it out.")
    assert "loss_options={'matryoshka_dims': [...]}" in message


def test_the_cache_holds_whole_vectors_and_aliases_are_followed(
    start: Start, own_workspace: Workspace, publish_tuned: Callable[[Workspace, str, int], None]
) -> None:
    publish_tuned(own_workspace, TUNED, 0)
    own_workspace.aliases.set("live", {"artifact": TUNED})
    room = start(TextEncoder, own_workspace, cache_mb=1)
    short = encoded(room, [Document(text="a"), Document(text="b")], dimensions=32).embeddings
    whole = encoded(room, [Document(text="a"), Document(text="c")]).embeddings
    assert (short.shape, whole.shape) == ((2, 32), (2, 128))
    np.testing.assert_array_equal(short[0], shortened(whole[0], 32))
    again = encoded(room, [Document(text="c"), Document(text="b")], dimensions=64)
    np.testing.assert_array_equal(again[0].embedding, shortened(whole[1], 64))
    hits = room.registry.get_sample_value("finetuner_cache_documents_total", {"outcome": "hit"})
    assert hits == 3, "a short vector is cut from a whole one"


def test_requests_of_several_sizes_at_the_same_time_stay_apart(text_room: TextEncoder, tuned: Clip) -> None:
    sizes = (128, 64, 32, None, 100)

    async def ask_all() -> list[DocumentArray]:
        asked = [DocumentArray([Document(text=text) for text in TEXTS]) for _ in sizes]
        parameters = [MINE if size is None else {**MINE, "dimensions": size} for size in sizes]
        pairs = zip(asked, parameters, strict=True)
        await asyncio.gather(*(text_room.encode(docs=docs, parameters=given) for docs, given in pairs))
        return asked

    *good, refused = asyncio.run(ask_all())
    for size, found in zip(sizes, good, strict=False):
        check_vectors(found, shortened(tuned.encode_texts(TEXTS), size or 128), TUNED)
    assert all(isinstance(error_of(document), InvalidInput) for document in refused)


@pytest.mark.slow
def test_onnx_runtime_cuts_too(
    start: Start, own_workspace: Workspace, publish_tuned: Callable[..., None], tuned: Clip
) -> None:
    publish_tuned(own_workspace, TUNED, 0, to_onnx=True)
    room = start(TextEncoder, own_workspace, engine="onnx")
    found = encoded(room, [Document(text=text) for text in TEXTS], dimensions=32, **MINE)
    assert found.embeddings.shape == (len(TEXTS), 32)
    np.testing.assert_allclose(found.embeddings, shortened(tuned.encode_texts(TEXTS), 32), atol=1e-4)


@pytest.mark.parametrize("name", ["encode_new", "encode_queries", "rank", "encode_any"])
def test_other_endpoints_refuse_it(name: str, text_room: TextEncoder) -> None:
    docs = DocumentArray([Document(text="a", matches=[Document(text="b")])])
    asyncio.run(getattr(text_room, name)(docs=docs, parameters={**MINE, "dimensions": 64}))
    expected = "Got dimensions. Leave it out." if name in ("rank", "encode_any") else "dimensions is for /encode alone"
    assert expected in str(error_of(docs[0]))
