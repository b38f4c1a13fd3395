"""Embeddings of both encoder rooms, compared with those of the models themselves."""

from __future__ import annotations

import asyncio
import base64
import io

import numpy as np
import pytest
from docarray import Document, DocumentArray
from PIL import Image

from finetuner.contract.wire import ARTIFACT_TAG, TOKENS_TAG, error_of
from finetuner.documents.images import decode
from finetuner.executors.text_encoder.executor import TextEncoder
from finetuner.executors.vision_encoder.executor import VisionEncoder
from finetuner.models.clip import Clip
from finetuner.workspace.folder import Workspace

from .calls import TEXTS, check_vectors, encoded
from .conftest import TUNED, Start


def test_texts_get_the_embeddings_of_the_text_tower(text_room: TextEncoder, clip_mini: Clip) -> None:
    found = encoded(text_room, [Document(text=text) for text in TEXTS])
    check_vectors(found, clip_mini.encode_texts(TEXTS), "clip-mini")
    assert [document.text for document in found] == TEXTS


def test_the_tokens_of_texts_are_counted_on_request(
    text_room: TextEncoder, vision_room: VisionEncoder, clip_mini: Clip, images: list[bytes]
) -> None:
    found = encoded(text_room, [*(Document(text=text) for text in TEXTS), Document(text="")], count_tokens=True)
    counts = [int(tokens.argmax()) + 1 for tokens in clip_mini.tokenizer(TEXTS)]  # the end has the highest id
    assert [document.tags.get(TOKENS_TAG) for document in found] == [*counts, None]
    assert TOKENS_TAG not in encoded(text_room, [Document(text="a")])[0].tags
    assert TOKENS_TAG not in encoded(vision_room, [Document(blob=images[0])], count_tokens=True)[0].tags
    (wrong,) = encoded(text_room, [Document(text="a")], count_tokens="yes")
    assert "'count_tokens' must be true or false. Got 'yes'." in str(error_of(wrong))


def test_images_get_the_embeddings_of_the_vision_tower(
    vision_room: VisionEncoder, clip_mini: Clip, images: list[bytes]
) -> None:
    found = encoded(vision_room, [Document(blob=blob) for blob in images])
    check_vectors(found, clip_mini.encode_images([decode(blob) for blob in images]), "clip-mini")


def test_embeddings_equal_those_of_open_clip(
    text_room: TextEncoder, vision_room: VisionEncoder, clip_mini: Clip, images: list[bytes]
) -> None:
    import torch

    with torch.inference_mode():
        text = clip_mini.network.encode_text(clip_mini.tokenizer(TEXTS), normalize=True).numpy()
        pixels = torch.stack([clip_mini.preprocess(Image.open(io.BytesIO(blob))) for blob in images])
        vision = clip_mini.network.encode_image(pixels, normalize=True).numpy()
    found = encoded(text_room, [Document(text=value) for value in TEXTS]).embeddings
    np.testing.assert_allclose(found, text, atol=1e-5)
    found = encoded(vision_room, [Document(blob=blob) for blob in images]).embeddings
    np.testing.assert_allclose(found, vision, atol=1e-5)


def test_blob_tensor_and_data_uri_of_one_image_are_equal(vision_room: VisionEncoder, images: list[bytes]) -> None:
    tensor = np.asarray(Image.open(io.BytesIO(images[0])))
    uri = "data:image/jpeg;base64," + base64.b64encode(images[0]).decode()
    found = encoded(vision_room, [Document(blob=images[0]), Document(tensor=tensor), Document(uri=uri)])
    assert np.ptp(found.embeddings, axis=0).max() < 1e-6


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1", "I;16"])
def test_images_of_every_mode_are_answered(mode: str, vision_room: VisionEncoder) -> None:
    buffer = io.BytesIO()
    Image.new(mode, (1, 1) if mode == "L" else (33, 7)).save(buffer, "TIFF")
    (found,) = encoded(vision_room, [Document(blob=buffer.getvalue())])
    assert error_of(found) is None
    assert found.embedding.shape == (128,)


def test_each_room_leaves_documents_of_the_other_kind_unchanged(
    text_room: TextEncoder, vision_room: VisionEncoder, images: list[bytes]
) -> None:
    def mixed() -> list[Document]:
        return [Document(id="t", text="a shirt"), Document(id="p", blob=images[0]), Document(id="n")]

    for room, mine in ((text_room, ["t"]), (vision_room, ["p", "n"])):
        before, found = DocumentArray(mixed()), encoded(room, mixed())
        assert [document.id for document in found if document.tags] == mine
        assert all(found[name] == before[name] for name in {"t", "p", "n"} - set(mine))


@pytest.mark.parametrize("reference", [TUNED, "candidate"])
def test_the_artifact_is_named_by_id_or_alias(
    reference: str,
    text_room: TextEncoder,
    vision_room: VisionEncoder,
    tuned: Clip,
    clip_mini: Clip,
    images: list[bytes],
) -> None:
    found = encoded(text_room, [Document(text=text) for text in TEXTS], artifact=reference)
    check_vectors(found, tuned.encode_texts(TEXTS), TUNED)
    assert np.abs(found.embeddings - clip_mini.encode_texts(TEXTS)).max() > 1e-3
    found = encoded(vision_room, [Document(blob=blob) for blob in images], artifact=reference)
    check_vectors(found, tuned.encode_images([decode(blob) for blob in images]), TUNED)


@pytest.mark.parametrize("reference", ["clip-mini", "live", None])
def test_a_backbone_by_name_or_by_default(reference: str | None, text_room: TextEncoder, clip_mini: Clip) -> None:
    found = encoded(text_room, [Document(text="a shirt")], artifact=reference)
    check_vectors(found, clip_mini.encode_texts(["a shirt"]), "clip-mini")


def test_a_request_without_documents_is_answered(text_room: TextEncoder) -> None:
    assert len(encoded(text_room, [])) == 0


def test_documents_with_an_embedding_reach_the_indexer_unchanged(text_room: TextEncoder) -> None:
    own = Document(text="brings its own", embedding=np.ones(3), tags={ARTIFACT_TAG: "somebody else's"})
    for endpoint in (text_room.encode_new, text_room.encode_queries):
        docs = DocumentArray([Document(own, copy=True), Document(text="a shirt")])
        asyncio.run(endpoint(docs=docs, parameters={"limit": 5.0, "return_content": True}))
        assert docs[0].embedding.tolist() == [1, 1, 1]
        assert docs[0].tags[ARTIFACT_TAG] == "somebody else's"
        assert docs[1].tags[ARTIFACT_TAG] == "clip-mini"
    encoded(text_room, [own])
    assert own.tags[ARTIFACT_TAG] == "clip-mini", "/encode encodes again"


def test_requests_and_documents_are_counted_by_endpoint(
    start: Start, workspace: Workspace, images: list[bytes]
) -> None:
    room = start(VisionEncoder, workspace)

    def value(name: str, **labels: str) -> float:
        return room.registry.get_sample_value(name, labels) or 0.0

    encoded(room, [Document(blob=images[0]), Document(blob=b"broken"), Document(text="not mine")])
    encoded(room, [Document(blob=images[0])], artifact="nobody")
    asyncio.run(room.encode_queries(docs=DocumentArray([Document(blob=images[0])]), parameters={}))
    assert value("finetuner_requests_total", endpoint="/encode", outcome="ok") == 1
    assert value("finetuner_requests_total", endpoint="/encode", outcome="error") == 1
    assert value("finetuner_documents_total", endpoint="/encode", outcome="ok") == 1
    assert value("finetuner_documents_total", endpoint="/encode", outcome="error") == 2
    assert value("finetuner_documents_total", endpoint="/search", outcome="ok") == 1
    assert value("finetuner_documents_total", endpoint="/index", outcome="ok") == 0
    assert value("finetuner_request_seconds_count", endpoint="/encode") == 2
