"""Image models encode images as timm does, and read their options."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import timm
import torch
from docarray import Document, DocumentArray
from PIL import Image

from finetuner.catalogue import fashion
from finetuner.documents.images import decode
from finetuner.documents.uris import read_public
from finetuner.exceptions import InvalidInput
from finetuner.inference.encoding import encode_documents
from finetuner.models.backbone import Backbone
from finetuner.models.image_model import ImageModel
from finetuner.models.image_weights import (
    load_image_backbone,
)

RANDOM = Backbone("resnet-mini-random", "test_resnet", "random", task="image-to-image", output_dim=96)


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    return [decode(image.jpeg) for image in fashion("train", items=2)]


@pytest.fixture
def model() -> ImageModel:
    return load_image_backbone(RANDOM)


def test_embeddings_are_timms_features_normalised(model: ImageModel, images: list[Image.Image]) -> None:
    reference = timm.create_model("test_resnet", num_classes=0).eval()
    reference.load_state_dict(model.network.features.state_dict())
    with torch.inference_mode():
        expected = torch.nn.functional.normalize(reference(torch.stack([model.preprocess(p) for p in images])))
    found = model.encode_images(images, batch_size=3)
    assert found.dtype == np.float32
    assert found.shape == (4, 96) == (len(images), model.dim)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)
    assert model.encode_images([]).shape == (0, 96)


def test_documents_are_encoded(model: ImageModel) -> None:
    first = next(iter(fashion("train", items=1)))
    documents = DocumentArray([Document(blob=first.jpeg), Document(text="a shirt"), Document(blob=b"broken")])
    assert encode_documents(model, documents, read_uri=read_public, towers=model.towers) == (1, 1)
    assert documents[0].tags["finetuner_artifact"] == "resnet-mini-random"
    np.testing.assert_array_equal(documents[0].embedding, model.encode_images([decode(first.jpeg)])[0])
    assert documents[1].embedding is None
    with pytest.raises(InvalidInput, match="encodes images only. Got 1 texts"):
        model.encode_texts(["a shirt"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooler": "gem"}, "Did you mean 'GeM'"),
        ({"pooler_options": {"p": 3}}, "need pooler='GeM'"),
        ({"pooler": "GeM", "pooler_options": {"q": 3}}, "keys of p, eps"),
        ({"pooler": "GeM", "pooler_options": {"p": 0}}, "number in"),
        ({"head": 3}, "keys of pooler, pooler_options"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        load_image_backbone(RANDOM, model_options=options)
    assert message in str(caught.value)
