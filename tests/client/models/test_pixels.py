"""Cropping, then normalising, equals the model's own preprocessing, for either kind of model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from finetuner.models.backbones import find_backbone
from finetuner.models.clip_files import load_backbone
from finetuner.models.image_model import ImageModelConfig, ImagePreprocess, build_image_model
from finetuner.models.model_kinds import Model
from finetuner.models.pixels import batched, cropped, normalised

SIZES = [(1, 1), (64, 40), (300, 200), (7, 99), (224, 224)]


@pytest.fixture(params=["clip", "images"])
def model(request: pytest.FixtureRequest) -> Model:
    if request.param == "clip":
        return load_backbone(find_backbone("clip-mini"))
    preprocess = ImagePreprocess(64, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    return build_image_model(ImageModelConfig("resnet18", preprocess, output_dim=8), "x", "resnet18")


def image(size: tuple[int, int]) -> Image.Image:
    generator = np.random.default_rng(sum(size))
    return Image.fromarray(generator.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def test_both_steps_together_are_the_preprocessing(model: Model) -> None:
    images = [image(size) for size in SIZES]
    pixels = [torch.from_numpy(cropped(model.preprocess, image).copy()) for image in images]
    assert {value.dtype for value in pixels} == {torch.uint8}
    expected = torch.stack([model.preprocess(image) for image in images])
    torch.testing.assert_close(batched(pixels, model.preprocess, "cpu"), expected, atol=1e-6, rtol=0)
    np.testing.assert_allclose(model.encode_pixels(pixels), model.encode_images(images), atol=1e-5)


def test_preprocessed_images_stay_as_they_are(model: Model) -> None:
    ready = [model.preprocess(image(size)) for size in SIZES[:2]]
    assert torch.equal(batched(ready, model.preprocess, "cpu"), torch.stack(ready))


def test_normalised_against_the_formula() -> None:
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ([0.5, 0.1, 0.0], [0.5, 0.2, 2.0]))
    assert normalised(pixels, mean, std).flatten().tolist() == pytest.approx([-1.0, 0.5, 0.5])
