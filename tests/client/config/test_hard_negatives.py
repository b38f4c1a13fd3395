"""Options of mining: allowed and refused values."""

from __future__ import annotations

import json
from typing import Any

import pytest

from finetuner.config.hard_negatives import HardNegatives
from finetuner.config.run_config import RunConfig
from finetuner.exceptions import InvalidInput

FULL = {"per_image": 2, "range": [3, 50], "relative_margin": 0.9, "every": 4}


def config(given: Any) -> RunConfig:
    return RunConfig(model="clip-mini", train_data="data", training_options={"hard_negatives": given})


def test_options_survive_json_and_defaults_are_filled_in() -> None:
    again = RunConfig.from_dict(json.loads(json.dumps(config(FULL).to_dict())))
    assert again.options.mining == HardNegatives(2, (3, 50), 0.9, 4)
    floats = {"per_image": 1.0}  # as protobuf has it
    assert config(floats).options.mining == HardNegatives(1, (0, 100), 0.95, 1)
    assert config(None).options.mining is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "hard_negatives: per_image must be given. Got none. Add it"),
        ({"per_image": 0}, r"per_image must be a whole number in \[1, 16\]. Got 0"),
        ({"per_image": 1, "range": 5}, r"range must be two ranks, \[min, max\]. Got 5"),
        ({"per_image": 1, "range": [5, 5]}, r"range must hold at least per_image, 1, ranks. Got \[5, 5\]"),
        ({"per_image": 3, "range": [0, 2]}, "range must hold at least per_image, 3"),
        ({"per_image": 1, "range": [0, 1001]}, "range must be a whole number in"),
        ({"per_image": 1, "relative_margin": 1.1}, r"relative_margin must be a number in \[0.01, 1\]. Got 1.1"),
        ({"per_image": 1, "every": 0}, "every must be a whole number in"),
        ({"per_query": 1}, "must have keys of per_image, range, relative_margin, every. Got per_query"),
        (3, "must be a mapping"),
    ],
)
def test_wrong_options_are_refused(given: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        config(given)
