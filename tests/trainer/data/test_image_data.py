"""Labelled images, decoded once."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from finetuner.catalogue import fashion
from finetuner.documents.images import decode
from finetuner.documents.labelled import LabelledImage
from finetuner.exceptions import InvalidInput
from finetuner.executors.trainer.data.image_cache import ImageCache
from finetuner.executors.trainer.data.image_data import ImageData, prepare_images
from finetuner.models.backbone import Backbone
from finetuner.models.image_model import ImageModel
from finetuner.models.image_weights import load_image_backbone
from finetuner.models.pixels import normalised

VERSION = "a" * 64


@pytest.fixture(scope="module")
def model() -> ImageModel:
    return load_image_backbone(Backbone("resnet-mini-random", "test_resnet", "random", task="image-to-image"))


@pytest.fixture(scope="module")
def images() -> list[LabelledImage]:
    return [LabelledImage(image.jpeg, image.item) for image in fashion("train", items=3)]


def test_pixels_are_what_the_model_sees_at_inference(
    model: ImageModel, images: list[LabelledImage], tmp_path: Path
) -> None:
    data = prepare_images(images, model, ImageCache(tmp_path, 10**9), VERSION, 0)
    config = model.preprocess_config
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (config.mean, config.std))
    expected = torch.stack([model.preprocess(decode(image.image)) for image in images])
    torch.testing.assert_close(normalised(torch.from_numpy(data.fetch(np.arange(len(images)))[0]), mean, std), expected)
    assert data.pixels.dtype == np.uint8


def test_labels_are_numbered_by_name(model: ImageModel, images: list[LabelledImage], tmp_path: Path) -> None:
    data = prepare_images(images[::-1], model, ImageCache(tmp_path, 10**9), VERSION, 2)
    assert list(data.names) == sorted({image.label for image in images})
    assert [data.names[label] for label in data.labels] == [image.label for image in images[::-1]]


def test_a_broken_image_is_left_out_with_a_warning(
    model: ImageModel, images: list[LabelledImage], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = prepare_images(images, model, ImageCache(tmp_path, 0), VERSION, 2)
    broken = LabelledImage(images[0].image[:500], "of no other")
    with caplog.at_level(logging.WARNING, "finetuner"):
        data = prepare_images([images[0], broken, *images[1:]], model, ImageCache(tmp_path, 10**9), VERSION, 2)
    assert "of no other" in caplog.text
    assert "1 of 7 images cannot be decoded" in caplog.text
    np.testing.assert_array_equal(data.pixels, whole.pixels)
    np.testing.assert_array_equal(data.labels, whole.labels)
    assert data.names == whole.names


def test_a_later_run_decodes_nothing(model: ImageModel, images: list[LabelledImage], tmp_path: Path) -> None:
    cache = ImageCache(tmp_path, 10**9)
    again = [*images, images[0]]  # an image that occurs twice is two rows
    first, second = (prepare_images(given, model, cache, VERSION, 2) for given in (again, []))
    assert len(second) == 7
    np.testing.assert_array_equal(first.pixels, second.pixels)
    np.testing.assert_array_equal(first.labels, second.labels)
    assert first.names == second.names


def numbered(labels: list[int]) -> ImageData:
    """Images whose pixels equal their row."""
    pixels = np.arange(len(labels), dtype=np.uint8)[:, None, None, None] * np.ones((1, 3, 2, 2), np.uint8)
    return ImageData(pixels, np.array(labels), [str(label) for label in range(max(labels) + 1)])


def test_a_random_epoch_has_each_row_once() -> None:
    data, rows = numbered([0, 1] * 6), np.array([1, 2, 4, 7, 9, 11])
    plan = data.plan(rows, 4, None, np.random.default_rng(0))
    assert sorted(np.concatenate(plan).tolist()) == rows.tolist()
    assert [batch.tolist() for batch in data.plan(rows, 4, None, None)] == [[1, 2, 4, 7], [9, 11]]
    for batch in plan:
        pixels, labels = data.fetch(batch)
        assert pixels[:, 0, 0, 0].tolist() == batch.tolist()
        assert labels.tolist() == (batch % 2).tolist()


def test_an_epoch_by_label_has_others_of_the_label_in_the_batch() -> None:
    data, rows = numbered([0, 1, 2, 3] * 4), np.arange(2, 14)
    plan = data.plan(rows, 6, 3, np.random.default_rng(0))
    assert sorted(np.concatenate(plan).tolist()) == rows.tolist()
    assert all(
        sorted(data.labels[batch].tolist().count(label) for label in data.labels[batch]) == [3] * 6 for batch in plan
    )


@pytest.mark.parametrize(("rows", "found"), [([], "0 of 0"), ([0], "1 of 1"), ([0, 1], "2 of 2 images, 1 labels")])
def test_too_little_data_is_refused(
    model: ImageModel, images: list[LabelledImage], tmp_path: Path, rows: list[int], found: str
) -> None:
    with pytest.raises(InvalidInput, match=f"two images of two labels .* Got {found}"):
        prepare_images([images[row] for row in rows], model, ImageCache(tmp_path, 10**9), VERSION, 1)
