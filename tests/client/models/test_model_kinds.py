"""The choice between CLIP and image models, and the choice of a tower."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from finetuner.exceptions import InvalidInput, SelectModelRequired
from finetuner.models.backbone import Backbone
from finetuner.models.image_model import ImageModel
from finetuner.models.image_weights import (
    load_image_backbone,
    tower_of,
)
from finetuner.models.model_kinds import load_model, load_row, save_model, select_tower, towers_of

RANDOM = Backbone("resnet-mini-random", "test_resnet", "random", task="image-to-image", output_dim=96)
TAGGED = replace(RANDOM, name="resnet-base", architecture="resnet50", pretrained="a1_in1k")


@pytest.fixture
def model() -> ImageModel:
    return load_image_backbone(RANDOM)


def test_the_kind_of_a_row_selects_the_loader(tmp_path: Path, model: ImageModel) -> None:
    text_to_image = Backbone("clip-base-en", "ViT-B-32", "openai")
    assert towers_of(text_to_image) == ("clip-text", "clip-vision")
    assert towers_of(TAGGED) == ("resnet50",)
    assert tower_of(replace(TAGGED, architecture="tf_efficientnet_b7")) == "efficientnet_b7"
    assert isinstance(load_row(RANDOM), ImageModel)
    with pytest.raises(InvalidInput, match="model_options must be empty for clip-base-en"):
        load_row(text_to_image, model_options={"pooler": "GeM"})
    save_model(model, tmp_path)
    assert load_model(tmp_path, "x", towers=("clip-vision",)).towers == ("test_resnet",)
    with pytest.raises(InvalidInput, match="holds test_resnet only. Got input for clip-text"):
        load_model(tmp_path, "x", towers=("clip-text",))


@pytest.mark.parametrize(
    ("given", "towers", "expected"),
    [(None, ("a",), "a"), ("a", ("a",), "a"), ("a", ("a", "b"), "a"), (None, ("a", "b"), None), ("c", ("a",), None)],
)
def test_none_selects_the_only_tower(given: str | None, towers: tuple[str, ...], expected: str | None) -> None:
    if expected is None:
        with pytest.raises(SelectModelRequired):
            select_tower(given, towers, "it")
    else:
        assert select_tower(given, towers, "it") == expected
