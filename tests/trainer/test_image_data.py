"""Labelled pictures, decoded once."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from executors.trainer.crops import normalised
from executors.trainer.image_data import prepare_images
from finetuner.backbones import Backbone
from finetuner.catalogue import fashion
from finetuner.exceptions import InvalidInput
from finetuner.image_model import ImageModel
from finetuner.image_weights import load_image_backbone
from finetuner.images import decode
from finetuner.labelled import LabelledPicture


@pytest.fixture(scope="module")
def model() -> ImageModel:
    return load_image_backbone(Backbone("resnet-mini-random", "test_resnet", "random", task="image-to-image"))


@pytest.fixture(scope="module")
def pictures() -> list[LabelledPicture]:
    return [LabelledPicture(picture.jpeg, picture.item) for picture in fashion("train", items=3)]


def test_pixels_are_what_the_model_sees_at_inference(
    model: ImageModel, pictures: list[LabelledPicture], tmp_path: Path
) -> None:
    data = prepare_images(pictures, model, tmp_path / "pixels.npy", 0)
    config = model.preprocess_config
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (config.mean, config.std))
    expected = torch.stack([model.preprocess(decode(picture.image)) for picture in pictures])
    torch.testing.assert_close(normalised(torch.from_numpy(data.pixels), mean, std), expected)
    assert data.pixels.dtype == np.uint8
    assert list(tmp_path.iterdir()) == []


def test_labels_are_numbered_by_name(model: ImageModel, pictures: list[LabelledPicture], tmp_path: Path) -> None:
    data = prepare_images(pictures[::-1], model, tmp_path / "pixels.npy", 2)
    assert list(data.names) == sorted({picture.label for picture in pictures})
    assert [data.names[label] for label in data.labels] == [picture.label for picture in pictures[::-1]]


def test_a_broken_picture_is_left_out_with_a_warning(
    model: ImageModel, pictures: list[LabelledPicture], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = prepare_images(pictures, model, tmp_path / "whole.npy", 2)
    broken = LabelledPicture(pictures[0].image[:500], "of no other")
    with caplog.at_level(logging.WARNING, "finetuner"):
        data = prepare_images([pictures[0], broken, *pictures[1:]], model, tmp_path / "pixels.npy", 2)
    assert "of no other" in caplog.text
    assert "1 of 7 pictures cannot be decoded" in caplog.text
    np.testing.assert_array_equal(data.pixels, whole.pixels)
    np.testing.assert_array_equal(data.labels, whole.labels)
    assert data.names == whole.names


@pytest.mark.parametrize(("rows", "found"), [([], "0 of 0"), ([0], "1 of 1"), ([0, 1], "2 of 2 pictures, 1 labels")])
def test_too_little_is_refused(
    model: ImageModel, pictures: list[LabelledPicture], tmp_path: Path, rows: list[int], found: str
) -> None:
    with pytest.raises(InvalidInput, match=f"two pictures of two labels .* Got {found}"):
        prepare_images([pictures[row] for row in rows], model, tmp_path / "pixels.npy", 1)
