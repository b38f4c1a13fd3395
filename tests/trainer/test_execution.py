"""Defaults of a run."""

from __future__ import annotations

import pytest

from finetuner.config.run_config import RunConfig
from finetuner.executors.trainer.execution import default_learning_rate


@pytest.mark.parametrize(
    ("model", "whole", "adapters"),
    [("clip-mini", 5e-4, 1e-3), ("clip-base-en", 1e-6, 2e-5), ("resnet-base", 1e-4, 2e-4)],
)
def test_adapters_learn_faster_than_weights(model: str, whole: float, adapters: float) -> None:
    loss = "TripletMarginLoss" if model == "resnet-base" else "CLIPLoss"
    for options, expected in (({}, whole), ({"lora_rank": 8}, adapters)):
        config = RunConfig(model, "data", loss=loss, training_options=options)
        assert default_learning_rate(config) == pytest.approx(expected)
