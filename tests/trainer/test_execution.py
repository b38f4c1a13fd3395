"""Defaults of a run, and runs by each recipe."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from finetuner.artifacts.manifest import verify_artifact
from finetuner.config.recipes import list_recipes, with_recipe
from finetuner.config.run_config import RunConfig
from finetuner.executors.trainer.execution import default_learning_rate
from finetuner.executors.trainer.run_folder import RunFolder
from finetuner.models.backbones import find_backbone
from finetuner.models.clip import Clip
from finetuner.models.model_kinds import load_model


@pytest.mark.parametrize(
    ("model", "whole", "adapters"),
    [("clip-mini", 5e-4, 1e-3), ("clip-base-en", 1e-6, 2e-5), ("resnet-base", 1e-4, 2e-4)],
)
def test_adapters_learn_faster_than_weights(model: str, whole: float, adapters: float) -> None:
    loss = "TripletMarginLoss" if model == "resnet-base" else "CLIPLoss"
    for options, expected in (({}, whole), ({"lora_rank": 8}, adapters)):
        config = RunConfig(model, "data", loss=loss, training_options=options)
        assert default_learning_rate(config) == pytest.approx(expected)


IN_SHORT = ("keep", "small-data")  # with distillation, WiSE-FT and adapters


@pytest.mark.parametrize(
    "name",
    [
        name if name in IN_SHORT else pytest.param(name, marks=pytest.mark.slow)
        for name, row in list_recipes().items()
        if not row.backbone
    ],
)
@pytest.mark.seconds
def test_a_run_by_a_recipe_reports_its_name_and_options(
    name: str, work: Callable[..., tuple[int, RunFolder]], clip_mini: Clip, caplog: pytest.LogCaptureFixture
) -> None:
    fields = with_recipe(name, {"eval_data": "pairs"}, find_backbone("clip-mini")) | {"recipe_choice": "so it is"}
    code, folder = work(guard_data="pairs", **fields)
    log = caplog.text
    assert code == 0, log
    artifact = folder.path.parent.parent / "artifacts" / folder.path.name
    told = verify_artifact(artifact).training
    assert (told["recipe"], told["optimizer"], told["scheduler"]) == (name, "AdamW", "cosine")
    assert told["recipe_choice"] == "so it is"
    assert f"Recipe: {name}, so it is" in log
    assert told["optimizer_options"]["weight_decay"] == 0.2
    recipe = list_recipes()[name]
    assert told["learning_rate"] == fields["learning_rate"] == recipe.learning_rate(find_backbone("clip-mini"))
    assert ("1 * distillation" in log) is ("distillation" in recipe.training_options)
    assert ("WiSE-FT: area under the curve" in log) is recipe.wise_ft
    tuned, before = load_model(artifact / "models", "tuned").network.state_dict(), clip_mini.network.state_dict()
    same = {key for key, value in before.items() if torch.equal(value, tuned[key])}
    if not recipe.wise_ft:  # a sweep may publish the initial weights
        assert (set(filter(lambda key: key.startswith("visual."), before)) <= same) is (name == "locked-image")
        assert not {key for key in same if key.startswith("transformer.") and key.endswith("weight")}
