"""Options of near duplicates: allowed and refused values."""

from __future__ import annotations

import json
from typing import Any

import pytest

from finetuner.config.near_duplicates import NearDuplicates
from finetuner.config.run_config import RunConfig
from finetuner.exceptions import InvalidInput


def config(given: Any, model: str = "clip-mini") -> RunConfig:
    return RunConfig(model=model, train_data="data", training_options={"near_duplicates": given})


def test_options_survive_json_and_defaults_are_filled_in() -> None:
    again = RunConfig.from_dict(json.loads(json.dumps(config({"images": None, "soft": 0.5}).to_dict())))
    assert again.options.duplicates == NearDuplicates(None, 0.95, 0.5)
    assert config({}).options.duplicates == NearDuplicates(0.95, 0.95, 0.0)
    assert config(None).options.duplicates is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"images": 1.2}, r"near_duplicates: images must be a number in \[0.1, 1.0\]. Got 1.2"),
        ({"captions": 0}, r"captions must be a number in \[0.1, 1.0\]. Got 0"),
        ({"soft": 2}, r"soft must be a number in \[0, 1\]. Got 2"),
        ({"images": None, "captions": None}, "images or captions must have a cosine. Got None for both"),
        ({"texts": 0.9}, "must have keys of images, captions, soft. Got texts"),
        (0.95, "must be a mapping"),
    ],
)
def test_wrong_options_are_refused(given: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        config(given)


def test_image_models_are_refused() -> None:
    for given in ({}, {"soft": 1}):
        with pytest.raises(InvalidInput, match="near_duplicates is for a CLIP. Got .* for resnet-base"):
            config(given, "resnet50")
